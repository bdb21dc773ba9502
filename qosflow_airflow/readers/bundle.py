"""A bundle: a folder that holds all that is known of one workflow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.core.scaling import ScalingRules
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer_table import TransferTable
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import BundleError, TierError
from qosflow_airflow.readers import cross_checks
from qosflow_airflow.readers.catalog import build_catalog, named
from qosflow_airflow.readers.files import SourceFile, read_file
from qosflow_airflow.readers.observations_csv import read_observations_csv
from qosflow_airflow.readers.rates import read_rates
from qosflow_airflow.readers.roots import check_inside
from qosflow_airflow.readers.scaling_yaml import read_scaling_yaml
from qosflow_airflow.readers.stages_json import read_stages_json
from qosflow_airflow.readers.tiers_yaml import read_tiers_yaml
from qosflow_airflow.readers.transfer_times_csv import read_transfer_times_csv
from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml

__all__ = ["Bundle", "check_inside", "read_bundle"]

WORKFLOW = "workflow.yaml"
STAGES = "stages.json"
OBSERVATIONS = "observations.csv"
TRANSFER_TIMES = "spm.csv"
RATES = "profile.csv"
BENCHMARKS = "profile.json"
TIERS = "tiers.yaml"
SCALING = "scaling.yaml"
FILES = (WORKFLOW, STAGES, OBSERVATIONS, TRANSFER_TIMES, RATES, BENCHMARKS, TIERS, SCALING)


@dataclass(frozen=True)
class Bundle:
    """What a bundle's files hold; ``None`` where it lacks the file.

    ``hashes`` maps the name of each file that was read to the SHA-256 of its content; transfer times from
    elsewhere stand under the name they have in a bundle, ``spm.csv``.
    """

    path: Path
    workflow: Workflow
    catalog: TierCatalog | None
    observations: IOObservations | None
    transfer_table: TransferTable | None
    rates: StorageRates | None
    hashes: Mapping[str, str]
    scaling: ScalingRules | None = None


def read_bundle(
    path: str | Path,
    *,
    transfer_times: str | Path | None = None,
    tiers: Sequence[str] | None = None,
    roots: Iterable[str | Path] | None = None,
) -> Bundle:
    """Read a bundle's files and check that they speak of the same stages and tiers.

    ``workflow.yaml`` or ``stages.json`` is required; ``observations.csv``, ``spm.csv``, ``profile.csv`` or
    ``profile.json`` (what fio or IOR wrote, on the tiers' mounts), ``tiers.yaml`` and ``scaling.yaml`` are
    optional, other files are ignored. ``transfer_times`` replaces ``spm.csv``. ``tiers`` selects from
    ``tiers.yaml``; without that file the catalog is made of these names, or else of the tiers in the transfer
    times. With ``roots``, nothing is read that does not lie below one of them.

    Raises
    ------
    BundleError
        When the folder or one of its files cannot be read, or lies outside the roots.
    WorkflowError, TierError, MeasurementError
        When a file's content is wrong, or two files contradict each other.
    """
    allowed = None if roots is None else tuple(roots)
    folder = Path(path)
    if allowed is not None:
        check_inside(folder, allowed)
    files = _files(folder, transfer_times, allowed)
    workflow = _workflow(folder, files)
    observations = read_observations_csv(files[OBSERVATIONS]) if OBSERVATIONS in files else None
    table = read_transfer_times_csv(files[TRANSFER_TIMES]) if TRANSFER_TIMES in files else None
    declared = read_tiers_yaml(files[TIERS]) if TIERS in files else None
    scaling = read_scaling_yaml(files[SCALING], workflow) if SCALING in files else None
    measured = _one(folder, files, RATES, BENCHMARKS)
    rates = None if measured is None else read_rates(measured, _mounts(declared))

    if observations is not None:
        cross_checks.check_observations(observations, workflow, files[OBSERVATIONS].name)
    if table is not None:
        cross_checks.check_transfer_stages(table, workflow, files[TRANSFER_TIMES].name)
        if declared is not None:
            cross_checks.check_transfer_tiers(table, declared, files[TRANSFER_TIMES].name)
    catalog = (
        build_catalog(tiers, table) if declared is None else _selected(declared, tiers, files[TIERS].name)
    )
    if measured is not None and rates is not None and catalog is not None:
        cross_checks.check_rates(rates, catalog, measured.name)

    hashes = {name: file.sha256 for name, file in files.items()}
    return Bundle(folder, workflow, catalog, observations, table, rates, hashes, scaling)


def _files(
    folder: Path, transfer_times: str | Path | None, roots: tuple[str | Path, ...] | None
) -> dict[str, SourceFile]:
    """Return the files of the bundle that are there, by name."""
    if not folder.is_dir():
        raise BundleError("is not a folder", source=folder, cure="Give the folder that holds the files.")
    paths = {name: folder / name for name in FILES}
    if transfer_times is not None:
        paths[TRANSFER_TIMES] = Path(transfer_times)
    # A link to nothing is an error further on, not an absent file; so is a table that was asked for.
    asked = {TRANSFER_TIMES} if transfer_times is not None else set()
    return {
        name: _read(path, roots) for name, path in paths.items() if name in asked or os.path.lexists(path)
    }


def _read(path: Path, roots: tuple[str | Path, ...] | None) -> SourceFile:
    if roots is None:
        return read_file(path)
    # The path that was checked is the one that is opened; errors still name the one that was given.
    real = check_inside(path, roots)
    return SourceFile(path, read_file(real, follow_link=False).data)


def _workflow(folder: Path, files: Mapping[str, SourceFile]) -> Workflow:
    file = _one(folder, files, WORKFLOW, STAGES)
    if file is None:
        raise BundleError(f"holds neither {WORKFLOW} nor {STAGES}", source=folder, cure="Add one of them.")
    return read_workflow_yaml(file) if WORKFLOW in files else read_stages_json(file)


def _one(folder: Path, files: Mapping[str, SourceFile], name: str, other: str) -> SourceFile | None:
    """Return whichever of two files that say the same is there."""
    if name in files and other in files:
        raise BundleError(f"holds both {name} and {other}", source=folder, cure="Keep the one that is meant.")
    return files.get(name, files.get(other))


def _mounts(catalog: TierCatalog | None) -> dict[str, str | None]:
    """Return the folder of each tier by the name that rates have for it."""
    return {} if catalog is None else {tier.profile_name: tier.mount for tier in catalog.tiers}


def _selected(catalog: TierCatalog, names: Sequence[str] | None, source: str) -> TierCatalog:
    if names is None:
        return catalog
    try:
        return catalog.select(named(names))
    except TierError as error:
        error.source = source
        raise
