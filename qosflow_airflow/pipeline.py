"""The offline steps, from a bundle to a published model; each takes a store and ids, and returns ids.

    open_build -> project -> estimate -> cost -> regions (once per scale) -> publish

``qosflow build`` and the pipeline Dag run the same steps. Between two steps everything lies in the store as
parts of the build, so that a step may run on any worker and be tried again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from qosflow_airflow import __version__
from qosflow_airflow.answers import load_model_version
from qosflow_airflow.core.anchor_evidence import Evidence, anchor_evidence
from qosflow_airflow.core.anchoring import anchors_from_json, anchors_to_json, traced_tasks
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.configurations import EvaluatedConfigurations, configuration_frame, evaluate_space
from qosflow_airflow.core.estimate import estimate_stage_times, with_volumes
from qosflow_airflow.core.frames import frame_from_bytes, frame_to_bytes
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import MakespanRules, rules_named
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.policies import policy_qualities
from qosflow_airflow.core.profile import StorageProfile
from qosflow_airflow.core.rate_checks import check_rates
from qosflow_airflow.core.rate_model import RateModel, fit_rates
from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.core.region_fit import RegionOptions, fit_regions
from qosflow_airflow.core.regions import RegionSet
from qosflow_airflow.core.scaling import ScalingRules, check_scale, scaled, scaled_workflow
from qosflow_airflow.core.scaling import project as project_observations
from qosflow_airflow.core.spm_estimate import spm_transfer_table
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import StageTimes
from qosflow_airflow.core.transfer_table import TransferTable, stage_times
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import BundleError, MeasurementError, NotFoundError
from qosflow_airflow.readers.bundle import Bundle, check_inside, read_bundle
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.model_folder import write_model_folder

JSON = "application/json"
ARRAYS = "application/x-npz"


class OpenedBuild(NamedTuple):
    """A build whose inputs are read, checked and stored."""

    build_id: str
    workflow: str
    scales: tuple[int, ...]


def resolve_bundle(value: str, roots: Sequence[str], store: Store) -> Path:
    """Return the folder of a bundle: a path, or the name of a registered workflow.

    Raises
    ------
    BundleError
        When the folder is not below one of ``roots``.
    """
    if "/" not in value and "\\" not in value:
        try:
            value = store.workflow(value).bundle_path
        except NotFoundError:
            raise BundleError(
                f"no workflow is registered as {value!r}",
                cure="Give the path of a bundle, or build the workflow once from its path.",
            ) from None
    return check_inside(Path(value), [Path(root) for root in roots])


def open_build(
    store: Store, bundle: Path, options: BuildOptions, *, roots: Sequence[str] | None = None
) -> OpenedBuild:
    """Read and check a bundle, and store what the other steps need; nothing when the bundle is wrong.

    With ``roots``, nothing is read that does not lie below one of these folders.
    """
    found = read_bundle(
        bundle,
        transfer_times=None if options.transfer_times is None else _find(bundle, options.transfer_times),
        tiers=options.tiers,
        roots=roots,
    )
    workflow = found.workflow
    if options.name:
        workflow = Workflow(options.name, workflow.stages, workflow.description)
    _check_scaling(found, options)
    rules = found.scaling or ScalingRules()
    workflow = scaled_workflow(workflow, options.scale, rules)
    catalog = _catalog(found)
    scales = _scales(found, options)
    parts = _input_parts(found, options, catalog)
    checked = check_rates(StorageRates(parts["rates"])) if "rates" in parts else None
    if checked is not None:
        parts["rates"] = checked.rates.frame
    # Who asks for it by name may stand in another folder.
    store.register_workflow(workflow.name, str(bundle.absolute()), workflow.description)
    build_id = store.create_build(workflow.name, options.to_json(), found.hashes)
    plan = {
        "workflow": workflow.to_json(),
        "tiers": catalog.to_json(),
        "rules": options.rules.name,
        "scales": list(scales),
        "sources": sorted(parts),
        "extrapolated": rules.extrapolated(options.scale),
        "spreads": {
            stage.name: {
                "read": rules.spread(stage.name, "read_bytes", options.scale),
                "write": rules.spread(stage.name, "write_bytes", options.scale),
                "compute": rules.spread(stage.name, "compute_s", options.scale),
            }
            for stage in workflow.stages
        },
    }
    _put_json(store, build_id, "plan", None, plan)
    if checked is not None:
        _put_json(store, build_id, "rate_checks", None, checked.report.to_json())
        model = fit_rates(StorageProfile(checked.rates).points())
        store.put_part(build_id, "profile", None, model.to_bytes(), ARRAYS)
        evidence = _evidence(found, options, catalog, StorageProfile(checked.rates, model))
        anchors = {"anchors": anchors_to_json(evidence.anchors), "missing": evidence.missing}
        _put_json(store, build_id, "anchors", None, anchors)
    for kind, frame in parts.items():
        _put_frame(store, build_id, kind, None, frame)
    return OpenedBuild(build_id, workflow.name, scales)


def project(store: Store, build_id: str, nodes: int) -> dict[str, Any]:
    """Bring the observations to the scale of ``nodes`` nodes."""
    plan = _Plan.read(store, build_id)
    rows = 0
    if "observations" in plan.sources:
        observations = IOObservations(_get_frame(store, build_id, "observations"))
        projected = project_observations(observations, nodes)
        rows = len(projected.frame)
        _put_frame(store, build_id, "projected", str(nodes), projected.frame)
    return {"build_id": build_id, "nodes": nodes, "observations": rows}


def estimate(store: Store, build_id: str, nodes: int) -> dict[str, Any]:
    """Turn transfer times, or observations and rates, into stage times."""
    plan = _Plan.read(store, build_id)
    volumes = None
    if "observations" in plan.sources:
        observations = IOObservations(_get_frame(store, build_id, "projected", str(nodes)))
        volumes = TracedVolumes(plan.workflow, observations)
    if "transfer_times" in plan.sources:
        table = TransferTable(_get_frame(store, build_id, "transfer_times"))
        pairs = volumes.observed_pairs() if volumes else ()
        times = stage_times(table, plan.workflow, plan.catalog, nodes, plan.rules, pairs)
        times = with_volumes(times, plan.workflow, volumes) if volumes else times
    else:
        assert volumes is not None  # open_build refuses a bundle that has neither
        fitted = RateModel.from_bytes(store.part(build_id, "profile"))
        profile = StorageProfile(StorageRates(_get_frame(store, build_id, "rates")), fitted)
        anchors = anchors_from_json(_get_json(store, build_id, "anchors")["anchors"])
        times = estimate_stage_times(
            plan.workflow, plan.catalog, volumes, profile, nodes, plan.rules, anchors
        )
    times = times.with_spread(plan.spreads)
    times = times.as_extrapolated() if plan.extrapolated else times
    _put_json(store, build_id, "stage_times", str(nodes), times.to_json())
    return {"build_id": build_id, "nodes": nodes, "compute_known": times.compute_known}


def cost(store: Store, build_id: str, nodes: int) -> dict[str, Any]:
    """Evaluate every valid configuration, or a sample of too many: makespan, split, critical path."""
    makespans = _Plan.read(store, build_id).makespans(store, build_id, nodes)
    evaluated = evaluate_space(makespans)
    store.put_part(build_id, "configurations", str(nodes), evaluated.to_bytes(), ARRAYS)
    return {
        "build_id": build_id,
        "nodes": nodes,
        "configurations": len(evaluated),
        "sampled": makespans.space.is_sampled,
        "states": evaluated.states(),
    }


def regions(store: Store, build_id: str, nodes: int) -> dict[str, Any]:
    """Fit regions to the evaluated configurations, and measure them and the fixed policies held out."""
    makespans = _Plan.read(store, build_id).makespans(store, build_id, nodes)
    evaluated = EvaluatedConfigurations.from_bytes(store.part(build_id, "configurations", str(nodes)))
    if np.isnan(evaluated.makespan_s).all():
        # Nothing is measured here: the model says so, and has no regions to show.
        _put_json(store, build_id, "regions", str(nodes), {"regions": [], "quality": {}})
        return {"build_id": build_id, "nodes": nodes, "regions": 0}
    options = BuildOptions.parse(store.build(build_id).options)
    asked = RegionOptions(regions=options.regions)
    fitted = fit_regions(makespans, evaluated.layouts, evaluated, options=asked)
    quality = {
        # Of so many layouts, these were evaluated: all that are valid, or a sample.
        "layouts": {"evaluated": len(evaluated), "of": makespans.space.size},
        "sampled": makespans.space.is_sampled,
        "policies": {
            name: found._asdict()
            for name, found in policy_qualities(makespans, evaluated.layouts, evaluated.makespan_s).items()
        },
        "regions": {
            "count": fitted.count,
            "concordance_held_out": fitted.concordance_held_out,
            "mae_held_out_s": fitted.mae_held_out_s,
            "separation": fitted.separation,
            "curve": [list(point) for point in fitted.curve],
        },
    }
    _put_json(store, build_id, "regions", str(nodes), {**fitted.to_json(), "quality": quality})
    return {"build_id": build_id, "nodes": nodes, "regions": fitted.count}


def publish(store: Store, build_id: str) -> dict[str, Any]:
    """Make the build the next version of its workflow's model, whole or not at all."""
    build = store.build(build_id)
    if build.model_id is None:
        model = _assemble(store, build_id)
        _put_json(store, build_id, "model", None, model.to_json())
        _put_json(store, build_id, "regions", None, model.regions_to_json())
    plan = _Plan.read(store, build_id)
    scales = [str(nodes) for nodes in plan.scales]
    kinds: list[tuple[str, str | None]] = [("model", None), ("regions", None)]
    kinds += [("configurations", scale) for scale in scales]
    counts = {
        scale: len(EvaluatedConfigurations.from_bytes(store.part(build_id, "configurations", scale)))
        for scale in scales
    }
    summary = {"rules": plan.rules.name, "scales": list(plan.scales), "configurations": counts}
    version = store.publish(build_id, summary, kinds, qosflow_version=__version__)
    return {
        "model_id": version.model_id,
        "workflow": version.workflow,
        "version": version.version,
        **version.summary,
    }


def run(
    store: Store, bundle: Path, options: BuildOptions, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Run all steps one after the other and return what :func:`publish` returned."""
    opened = open_build(store, bundle, options)
    progress(f"{opened.workflow}: {len(opened.scales)} scales{_anchored(store, opened.build_id)}")
    for nodes in opened.scales:
        project(store, opened.build_id, nodes)
        estimate(store, opened.build_id, nodes)
        counted = cost(store, opened.build_id, nodes)
        found = regions(store, opened.build_id, nodes)
        what = "sampled configurations" if counted["sampled"] else "configurations"
        progress(f"{nodes} nodes: {counted['configurations']:,} {what}, {found['regions']} regions")
    return publish(store, opened.build_id)


def build_folder(
    bundle: Path, options: BuildOptions, folder: Path, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Run all steps in memory and write the model, with a table of its configurations, to a folder."""
    with MemoryStore() as store:
        published = run(store, bundle, options, progress)
        model = load_model_version(store, published["model_id"]).model
    frames = (configuration_frame(makespans, layouts) for makespans, layouts in model.blocks())
    write_model_folder(folder, model, frames)


@dataclass(frozen=True)
class _Plan:
    """What :func:`open_build` decided."""

    workflow: Workflow
    catalog: TierCatalog
    rules: MakespanRules
    scales: tuple[int, ...]
    sources: frozenset[str]
    extrapolated: bool
    spreads: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, store: Store, build_id: str) -> _Plan:
        plan = _get_json(store, build_id, "plan")
        return cls(
            Workflow.from_json(plan["workflow"]),
            TierCatalog.from_json(plan["tiers"]),
            rules_named(plan["rules"]),
            tuple(plan["scales"]),
            frozenset(plan["sources"]),
            bool(plan["extrapolated"]),
            plan["spreads"],
        )

    def makespans(self, store: Store, build_id: str, nodes: int) -> MakespanModel:
        times = StageTimes.from_json(_get_json(store, build_id, "stage_times", str(nodes)))
        return MakespanModel(self.workflow, self.catalog, times, self.rules)


def _assemble(store: Store, build_id: str) -> Model:
    plan = _Plan.read(store, build_id)
    build = store.build(build_id)
    scales = []
    for nodes in plan.scales:
        found = _get_json(store, build_id, "regions", str(nodes))
        times = StageTimes.from_json(_get_json(store, build_id, "stage_times", str(nodes)))
        fitted = RegionSet.from_json(found) if found["regions"] else None
        scales.append(ScaleModel(nodes, times, fitted, found["quality"]))
    return Model(plan.workflow, plan.catalog, plan.rules, tuple(scales), build.inputs, build.options)


def _check_scaling(bundle: Bundle, options: BuildOptions) -> None:
    """Refuse another scale where nothing says what it changes."""
    if options.scale.observed:
        return
    if bundle.scaling is None:
        raise BundleError(
            "there are no scaling rules",
            source=bundle.path,
            cure="Write a scaling.yaml, or infer one from runs with `qosflow scaling infer`.",
        )
    estimates = bundle.observations is not None and bundle.rates is not None
    if options.estimator != "default" or options.transfer_times or not estimates:
        raise MeasurementError(
            "only an estimate from observations and rates can be brought to another scale",
            source=bundle.path,
            cure="Add observations.csv and profile.csv, and leave the table and other estimators out.",
        )


def _catalog(bundle: Bundle) -> TierCatalog:
    if bundle.catalog is None:
        raise BundleError(
            "no tiers are known", source=bundle.path, cure="Add a tiers.yaml, or name them with `--tiers`."
        )
    return bundle.catalog


def _scales(bundle: Bundle, options: BuildOptions) -> tuple[int, ...]:
    asked = options.scales
    if asked is None and bundle.observations is not None:
        traced = bundle.observations.frame["nodes"].unique().tolist()
        asked = bundle.observations.scales or tuple(int(nodes) for nodes in traced)
    if not asked:
        raise BundleError(
            "no scales are known", source=bundle.path, cure="Name node counts, as in `--scales 2,5,10`."
        )
    return tuple(sorted({check_scale(nodes) for nodes in asked}))


def _input_parts(bundle: Bundle, options: BuildOptions, catalog: TierCatalog) -> dict[str, pd.DataFrame]:
    """Return the tables that the build needs: transfer times, or observations and rates."""
    parts = {}
    if bundle.observations is not None:
        rules = bundle.scaling or ScalingRules()
        parts["observations"] = scaled(bundle.observations, options.scale, rules).frame
    can_estimate = bundle.observations is not None and bundle.rates is not None
    if options.estimator == "spm":
        parts["transfer_times"] = _spm_transfer_table(bundle, catalog).frame
    elif bundle.transfer_table is not None and (options.transfer_times or not can_estimate):
        parts["transfer_times"] = bundle.transfer_table.frame
    elif bundle.rates is not None and can_estimate:
        parts["rates"] = bundle.rates.frame
    else:
        raise MeasurementError(
            "there is nothing to estimate times from",
            source=bundle.path,
            cure="Add observations.csv and profile.csv, or a table of transfer times (spm.csv).",
        )
    return parts


def _evidence(
    bundle: Bundle, options: BuildOptions, catalog: TierCatalog, profile: StorageProfile
) -> Evidence:
    """Return what the trace tells of the rates, at the scale of data and tasks at which it was made."""
    if not options.anchoring or bundle.observations is None:
        return Evidence((), "not asked for")
    return anchor_evidence(bundle.workflow, catalog, bundle.observations, profile)


def _anchored(store: Store, build_id: str) -> str:
    """Say what the times of a build are held against; nothing where they are no estimates."""
    if "transfer_times" in _Plan.read(store, build_id).sources:
        return ""
    found = _get_json(store, build_id, "anchors")
    tasks = traced_tasks(anchors_from_json(found["anchors"]))
    return f", anchored on {tasks} traced tasks" if tasks else f", not anchored: {found['missing']}"


def _spm_transfer_table(bundle: Bundle, catalog: TierCatalog) -> TransferTable:
    if bundle.observations is None or bundle.rates is None:
        raise MeasurementError(
            "the spm estimator needs observations and rates",
            source=bundle.path,
            cure="Add observations.csv and profile.csv, or leave the estimator out.",
        )
    return spm_transfer_table(bundle.workflow, catalog, bundle.observations, bundle.rates)


def _find(bundle: Path, name: str) -> Path:
    """Return a file named on the command line: as it stands, or inside the bundle."""
    return Path(name) if Path(name).is_file() else bundle / name


def _put_json(store: Store, build_id: str, kind: str, scale: str | None, value: Mapping[str, Any]) -> None:
    store.put_part(build_id, kind, scale, json.dumps(value, allow_nan=False).encode(), JSON)


def _get_json(store: Store, build_id: str, kind: str, scale: str | None = None) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(store.part(build_id, kind, scale))
    return value


def _put_frame(store: Store, build_id: str, kind: str, scale: str | None, frame: pd.DataFrame) -> None:
    store.put_part(build_id, kind, scale, frame_to_bytes(frame), ARRAYS)


def _get_frame(store: Store, build_id: str, kind: str, scale: str | None = None) -> pd.DataFrame:
    return frame_from_bytes(store.part(build_id, kind, scale))
