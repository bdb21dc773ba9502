"""Measure what storage tiers do for an application on this machine, as rows of a storage profile."""

from qosflow_airflow.measure.points import ProfileRow
from qosflow_airflow.measure.profile_csv import write_profile
from qosflow_airflow.measure.tiers import measure_tiers

__all__ = ["ProfileRow", "measure_tiers", "write_profile"]
