"""What the files of a bundle must agree on: the names of stages and tiers."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer_table import TransferTable
from qosflow_airflow.core.workflow import INITIAL_DATA, Workflow
from qosflow_airflow.exceptions import MeasurementError, TierError


def check_observations(observations: IOObservations, workflow: Workflow, source: str) -> None:
    """Raise a :class:`MeasurementError` at the first observation of a stage that the workflow lacks."""
    stages = workflow.stage_names
    frame = observations.frame
    _check(frame["stage"], stages, source, "taskName", workflow)
    _check(frame["producer"], ("", INITIAL_DATA, *stages), source, "prevTask", workflow)


def check_transfer_stages(table: TransferTable, workflow: Workflow, source: str) -> None:
    """Raise a :class:`MeasurementError` at the first transfer time of a stage that the workflow lacks."""
    stages = workflow.stage_names
    outside = [f"stage_in-{name}" for name in stages], [f"stage_out-{name}" for name in stages]
    _check(table.frame["producer"], (*stages, *outside[0]), source, "producer", workflow)
    _check(table.frame["consumer"], (*stages, *outside[1]), source, "consumer", workflow)


def _check(names: pd.Series[str], known: Iterable[str], source: str, column: str, workflow: Workflow) -> None:
    wrong = names[~names.isin(list(known))]
    if not wrong.empty:
        raise MeasurementError(
            f"{wrong.iloc[0]!r} is not a stage of workflow {workflow.name!r}",
            source=source,
            line=int(wrong.index[0]),
            column=column,
            cure=f"Use one of {', '.join(workflow.stage_names)}, or add the stage to the workflow.",
        )


def check_transfer_tiers(table: TransferTable, catalog: TierCatalog, source: str) -> None:
    """Raise a :class:`TierError` at the first transfer time on a tier that the catalog lacks."""
    for column, name in (("producer_tier", "producerStorageType"), ("consumer_tier", "consumerStorageType")):
        for line, tier in table.frame[column].drop_duplicates().items():
            unknown = [part for part in str(tier).split("-") if part not in catalog.index]
            if unknown:
                raise TierError(
                    f"{unknown[0]!r} is not a tier of the catalog",
                    source=source,
                    line=int(str(line)),
                    column=name,
                    cure=f"Use one of {', '.join(catalog.names)}, or add the tier to tiers.yaml.",
                )


def check_rates(rates: StorageRates, catalog: TierCatalog, source: str) -> None:
    """Raise a :class:`TierError` when the rates cannot be meant for these tiers.

    A tier may have no rates: its times are unknown then. But a tier that names its ``profile`` must find it,
    and one tier at least must have rates.
    """
    known = rates.tiers
    for tier in catalog.tiers:
        if tier.profile is not None and tier.profile not in known:
            raise TierError(
                f"tier {tier.name!r} has the profile {tier.profile!r}, which was not measured",
                source=source,
                cure=f"Use one of {', '.join(known)}, or measure it.",
            )
    if not any(tier.profile_name in known for tier in catalog.tiers):
        raise TierError(
            f"none of the tiers {', '.join(catalog.names)} was measured",
            source=source,
            cure=f"Set the `profile` of a tier to one of {', '.join(known)}, or measure the tiers.",
        )
