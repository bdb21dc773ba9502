"""Predicted against executed on this machine: measure, trace a run, build a model, run what it has not seen.

Everything takes place in folders of its own on the tiers, and nothing of it stays but the bundle, the model,
the runs and the report card.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qosflow_airflow import pipeline
from qosflow_airflow.core.airflow_overhead import AirflowOverhead
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.measured_run import CopyParts, MeasuredRun, StageParts
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.validation import ValidatedConfiguration, goals_met, report_card, validated
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import Edge
from qosflow_airflow.exceptions import BundleError, MeasurementError
from qosflow_airflow.measure.points import MIB
from qosflow_airflow.measure.scratch import is_memory, scratch
from qosflow_airflow.measure.throttled_tier import throttled_tier, why_not_throttled
from qosflow_airflow.measure.validation_runs import Layout, Workload, choose, run_all
from qosflow_airflow.readers.bundle import Bundle, read_bundle
from qosflow_airflow.store.model_folder import read_model_folder, write_report_card

BUNDLE, MODEL, RUNS = "bundle", "model", "runs.json"
THROTTLED = "slow"
IMAGE_FACTOR, IMAGE_MORE_BYTES = 3, 512 * MIB
"""The throttled tier holds the input, a whole run and what measuring takes."""
NODES = 1
TRACES = 3
"""Runs that are traced, of which the one of median length is kept: one may have been disturbed."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ValidationSettings:
    """What to run, where, and for how long.

    ``workload`` is a folder with a ``prepare.py`` as the example's; ``output`` where bundle, model and runs
    are kept; ``tiers`` folders by name, the home tier first; ``size_mib`` what a run moves in all, about;
    ``throttle_mib_s`` the rate of one more tier, which becomes the home tier, ``None`` for none;
    ``budget_s`` the seconds for the runs, ``profile_s`` those to measure the tiers. ``airflow`` measures what
    Airflow itself takes, too.
    """

    workload: Path
    output: Path
    tiers: Mapping[str, Path]
    size_mib: float
    throttle_mib_s: float | None
    repeats: int
    budget_s: float
    profile_s: float
    slots: int
    seed: int
    airflow: bool = False


@dataclass(frozen=True)
class Validation:
    """What came of it: the report card, and the configurations behind it."""

    card: dict[str, Any]
    configurations: list[ValidatedConfiguration] = field(repr=False)


def validate(settings: ValidationSettings, progress: Progress = lambda _: None) -> Validation:
    """Measure, trace, build, run and score; keep the model with its report card.

    Raises
    ------
    MeasurementError, BundleError
        When a tier, the workload or the time does not suffice.
    """
    if not (settings.workload / "prepare.py").is_file():
        raise BundleError(
            "has no prepare.py", source=settings.workload, cure="Give the folder of the example genome."
        )
    settings.output.mkdir(parents=True, exist_ok=True)
    with _tiers(settings, progress) as tiers:
        _prepare(settings, tiers, progress)
        model, workload = _build(settings.output, progress), _workload(settings)
        makespans = model.makespans(NODES)
        workload.check_space(settings.size_mib * MIB)
        predicted = _predicted(model, makespans)
        layouts, whole = choose(predicted, settings.repeats, settings.budget_s, settings.seed)
        what = "all" if whole else f"a random sample (seed {settings.seed}) of"
        progress(f"validate: {what} {len(layouts)} configurations of {len(predicted)}")
        runs = run_all(workload, layouts, settings.repeats, settings.budget_s, settings.seed, progress)
    about = {"space": len(predicted), "whole_space": whole, "settings": _told(settings, tiers)}
    about["airflow"] = _airflow(workload, progress) if settings.airflow else None
    _write_runs(settings.output / RUNS, about, runs)
    return _scored(settings.output, model, about, runs)


def score_again(output: Path, progress: Progress = lambda _: None) -> Validation:
    """Build the model of an earlier validation with this code, and score it by the runs of then.

    Raises
    ------
    BundleError
        When ``output`` holds no finished validation.
    """
    about, runs = _read_runs(output / RUNS)
    return _scored(output, _build(output, progress), about, runs)


def validation_runs(output: Path) -> tuple[Model, list[MeasuredRun]]:
    """Return the model and the runs, in the order in which they were made, of an earlier validation.

    Raises
    ------
    BundleError
        When the folder holds none.
    """
    return read_model_folder(output / MODEL), _read_runs(output / RUNS)[1]


def _scored(output: Path, model: Model, about: Mapping[str, Any], runs: Sequence[MeasuredRun]) -> Validation:
    makespans = model.makespans(NODES)
    configurations = validated(makespans, runs)
    card = {**report_card(makespans, configurations, _foreseen(output / BUNDLE)), **about}
    card["goals_met"] = goals_met(card)
    write_report_card(output / MODEL, card)
    return Validation(card, configurations)


@contextmanager
def _tiers(settings: ValidationSettings, progress: Progress) -> Iterator[dict[str, Path]]:
    """Make a folder of our own on every tier, the home tier first."""
    with ExitStack() as stack:
        tiers = {name: stack.enter_context(scratch(name, path)) for name, path in settings.tiers.items()}
        reason = why_not_throttled() if settings.throttle_mib_s is not None else None
        if reason:
            progress(f"validate: no throttled tier: {reason}")
        if settings.throttle_mib_s is not None and not reason:
            size = int(IMAGE_FACTOR * settings.size_mib * MIB) + IMAGE_MORE_BYTES
            mount = stack.enter_context(throttled_tier(settings.output, size, settings.throttle_mib_s))
            # Local tiers stand from the fastest to the slowest.
            local = sorted(tiers.items(), key=lambda tier: not is_memory(tier[1]))
            tiers = {THROTTLED: mount, **dict(local)}
        if len(tiers) < 2:
            raise MeasurementError(
                "there is one tier, so nothing to choose", cure="Name another with --tier NAME=PATH."
            )
        yield tiers


def _prepare(settings: ValidationSettings, tiers: Mapping[str, Path], progress: Progress) -> None:
    """Have the workload make its bundle: input, rates of the tiers, and one traced run."""
    command = [sys.executable, str(settings.workload / "prepare.py"), "--force"]
    command += ["--output", str(settings.output / BUNDLE), "--size", str(settings.size_mib)]
    command += ["--processes", str(settings.slots), "--budget-s", str(settings.profile_s)]
    command += ["--traces", str(TRACES)]
    for name, folder in tiers.items():
        command += ["--tier", f"{name}={folder}"]
    # A session of its own: an interrupt at the terminal reaches us, and we end it and wait.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    last = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            progress(last)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode != 0:
        raise MeasurementError(f"the workload could not be prepared: {last}", cure="Cure what it says.")


def _build(output: Path, progress: Progress) -> Model:
    pipeline.build_folder(output / BUNDLE, BuildOptions(), output / MODEL, progress)
    return read_model_folder(output / MODEL)


def _workload(settings: ValidationSettings) -> Workload:
    bundle = _bundle(settings.output / BUNDLE)
    assert bundle.catalog is not None
    told = json.loads((settings.output / BUNDLE / "run.json").read_text(encoding="utf-8"))
    command = (sys.executable, *told["program"])
    return Workload(bundle.workflow, bundle.catalog, command, Path(told["initial_data"]), settings.slots)


def _bundle(path: Path) -> Bundle:
    return read_bundle(path, transfer_times=None, tiers=None, roots=None)


def _predicted(model: Model, makespans: MakespanModel) -> dict[Layout, float]:
    """Return the makespans of the configurations to hold out: all that are measured but the traced one."""
    layouts = model.space.layouts()
    home = model.catalog.index[model.catalog.home]
    found = {
        tuple(map(int, layout)): float(seconds)
        for layout, seconds in zip(layouts, makespans.makespan_s(layouts), strict=True)
        if not math.isnan(seconds)
    }
    found.pop((home,) * len(model.workflow.stages), None)
    return found


def _foreseen(bundle: Path) -> dict[tuple[str, str], float]:
    """Return the bytes that the model has each stage read and write."""
    found = _bundle(bundle)
    assert found.observations is not None
    volumes = TracedVolumes(found.workflow, found.observations)
    asked = [(stage, operation) for stage in found.workflow.stage_names for operation in ("read", "write")]
    known = {one: volumes.volume(*one) for one in asked}
    return {one: volume.volume_bytes for one, volume in known.items() if volume is not None}


def _airflow(workload: Workload, progress: Progress) -> dict[str, float]:
    """Return what Airflow takes for a task, and what that makes of a run of the workload, by itself."""
    # A process of its own: Airflow is not imported here, and needs settings of its own.
    command = [sys.executable, "-m", "qosflow_airflow.operators.task_overhead"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MeasurementError(f"Airflow's own part could not be measured: {said}", cure="Leave it out.")
    overhead = AirflowOverhead(**json.loads(done.stdout))
    run_s = overhead.run_s(workload.workflow, workload.slots)
    progress(f"validate: Airflow itself takes {overhead.mapped_task_s:.2f} s a mapped task")
    return {"task_s": overhead.task_s, "mapped_task_s": overhead.mapped_task_s, "run_s": run_s}


def _told(settings: ValidationSettings, tiers: Mapping[str, Path]) -> dict[str, Any]:
    throttled = settings.throttle_mib_s if THROTTLED in tiers else None
    own = ("size_mib", "repeats", "budget_s", "profile_s", "slots", "seed")
    return {**{name: getattr(settings, name) for name in own}, "throttle_mib_s": throttled, "tiers": [*tiers]}


def _write_runs(path: Path, about: Mapping[str, Any], runs: Sequence[MeasuredRun]) -> None:
    rows = [
        {
            "layout": list(run.layout),
            "makespan_s": run.makespan_s,
            "stages": {stage: parts._asdict() for stage, parts in run.stages.items()},
            "copies": [[*edge, *parts] for edge, parts in run.copies.items()],
        }
        for run in runs
    ]
    text = json.dumps({"about": about, "runs": rows}, indent=1, allow_nan=False)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text + os.linesep)
    Path(file.name).replace(path)


def _read_runs(path: Path) -> tuple[dict[str, Any], list[MeasuredRun]]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        runs = [
            MeasuredRun(
                tuple(row["layout"]),
                row["makespan_s"],
                {stage: StageParts(**parts) for stage, parts in row["stages"].items()},
                {Edge(*copy[:2]): CopyParts(*copy[2:]) for copy in row["copies"]},
            )
            for row in kept["runs"]
        ]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise BundleError(
            f"holds no runs of a validation: {error}", source=path, cure="Run `qosflow validate` first."
        ) from error
    return kept["about"], runs
