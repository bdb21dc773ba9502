"""A bundle: a folder that holds all that is known of one workflow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer_table import TransferTable
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import BundleError
from qosflow_airflow.readers.files import SourceFile, read_file
from qosflow_airflow.readers.observations_csv import read_observations_csv
from qosflow_airflow.readers.stages_json import read_stages_json
from qosflow_airflow.readers.transfer_times_csv import read_transfer_times_csv

STAGES = "stages.json"
OBSERVATIONS = "observations.csv"
TRANSFER_TIMES = "spm.csv"


@dataclass(frozen=True)
class Bundle:
    """What a bundle's files hold; ``None`` where it lacks the file. ``hashes`` maps names to SHA-256."""

    path: Path
    workflow: Workflow
    catalog: TierCatalog | None
    observations: IOObservations | None
    transfer_table: TransferTable | None
    rates: None
    hashes: Mapping[str, str]


def read_bundle(
    path: str | Path, *, transfer_times: str | Path | None = None, tiers: Sequence[str] | None = None
) -> Bundle:
    """Read a bundle."""
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError("is not a folder", source=folder, cure="Give the folder of a bundle.")
    stages = read_file(folder / STAGES)
    observations = _optional(folder / OBSERVATIONS)
    table = _optional(folder / TRANSFER_TIMES) if transfer_times is None else read_file(transfer_times)
    files = {STAGES: stages, OBSERVATIONS: observations, TRANSFER_TIMES: table}
    transfer_table = None if table is None else read_transfer_times_csv(table)
    return Bundle(
        path=folder,
        workflow=read_stages_json(stages),
        catalog=_catalog(tiers, transfer_table),
        observations=None if observations is None else read_observations_csv(observations),
        transfer_table=transfer_table,
        rates=None,
        hashes={name: file.sha256 for name, file in files.items() if file is not None},
    )


def _optional(path: Path) -> SourceFile | None:
    return read_file(path) if os.path.lexists(path) else None


def _catalog(tiers: Sequence[str] | None, table: TransferTable | None) -> TierCatalog | None:
    if table is None:
        return None if tiers is None else TierCatalog(tuple(StorageTier(n, n == tiers[0]) for n in tiers))
    frame = table.frame
    direct = frame[frame["producer_tier"] == frame["consumer_tier"]]
    speed = direct.groupby("consumer_tier")["consumer_s"].median()
    names = tiers or sorted(table.tiers, key=lambda name: speed[name])
    found = [StorageTier(name, name not in table.local_tiers) for name in names]
    return TierCatalog(tuple(sorted(found, key=lambda tier: not tier.shared)))
