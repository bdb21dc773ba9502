"""Observations at another scale.

A scale is a node count. Of several traced runs, the one whose node count is nearest on a logarithmic scale
stands for it; stage tasks and volumes stay as observed.
"""

from __future__ import annotations

import numpy as np

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.exceptions import MeasurementError

MAX_NODES = 100_000


def check_scale(nodes: int) -> int:
    """Return ``nodes`` when it can be a node count, raise ``MeasurementError`` otherwise."""
    if not 1 <= nodes <= MAX_NODES:
        raise MeasurementError(
            f"a scale of {nodes} nodes", cure=f"Give whole numbers from 1 to {MAX_NODES:,}."
        )
    return nodes


def project(observations: IOObservations, nodes: int) -> IOObservations:
    """Return the traced run that stands for ``nodes`` nodes."""
    check_scale(nodes)
    traced = np.unique(observations.frame["nodes"])
    nearest = traced[np.abs(np.log(traced) - np.log(nodes)).argmin()]
    frame = observations.frame[observations.frame["nodes"] == nearest].reset_index(drop=True)
    return IOObservations(frame, (nodes,))
