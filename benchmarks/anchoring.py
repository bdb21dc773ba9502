"""What traced times tell of runs that were left out: rates alone, anchored, and "as long as the other run".

    python benchmarks/anchoring.py --profile CSV --tiers beegfs,nfs RUN@tier=beegfs RUN@tier=nfs ...

Each RUN is observations of one traced run; ``@tier=`` names its tier where the trace names it otherwise. Runs
with the same stages are of one workflow. Volumes are those of the run that is predicted: only seconds are.
An error is ``|ln(predicted / traced)|`` of one stage's reads or writes; 0.69 is a factor of two.

``left out`` predicts each run from all others, ``pairs`` from each single other one. Nothing of the run that
is scored enters its prediction; what carries over, and the spreads, are constants of the package that were
chosen on the public runs. ``--model FILE`` keeps the fitted law, so that it is fitted once.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.core.anchor_evidence import anchor_evidence
from qosflow_airflow.core.anchoring import Anchor, Rated, anchored
from qosflow_airflow.core.estimate import estimate_stage_times
from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.profile import StorageProfile
from qosflow_airflow.core.rate_checks import check_rates
from qosflow_airflow.core.rate_model import RateModel
from qosflow_airflow.core.run_spread import NORMAL_HALF_WIDTH
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.readers.observations_csv import read_observations_csv
from qosflow_airflow.readers.rates_csv import read_rates_csv

GIB = 1 << 30
SHRINKAGE = (0.0, 0.1, 0.5, 1.0, 5.0)
"""Tasks that are put against those traced: k of n / (n + k)."""


@dataclass(frozen=True)
class TracedRun:
    """A run: what was traced of each stage's reads and writes, and what the rates say of the same."""

    name: str
    workflow: str
    anchors: tuple[Anchor, ...]
    rated: tuple[Rated, ...]
    volume_bytes: tuple[float, ...]


class Error(NamedTuple):
    """One prediction's error; ``kind`` says from how far away it was made."""

    method: str
    workflow: str
    kind: str
    operation: str
    large: bool
    error: float
    inside: float
    """Whether the traced time lay in the prediction's interval of 90 %; NaN where there is none."""


def main() -> None:
    """Print the tables and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--tiers", required=True, help="names in the profile, shared ones first")
    parser.add_argument("--slots", type=int, help="tasks at once on a node (default: all of them)")
    parser.add_argument("--model", type=Path, metavar="FILE", help="read the fitted law, or keep it here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    first, *others = options.tiers.split(",")
    tiers = (StorageTier(first, True), *(StorageTier(name, False) for name in others))
    catalog = TierCatalog(tiers, node=NodePool(slots=options.slots))
    storage = _profile(options.profile, options.model)
    runs = [traced_run(text, catalog, storage) for text in options.runs]
    tables = {"left out": left_out(runs), "pairs": pairs(runs), "shrinkage": shrinkage(runs)}
    shown = {title: _rows(errors) for title, errors in tables.items()}
    for title, rows in shown.items():
        _print(title, rows)
    if options.json:
        options.json.write_text(json.dumps(shown, indent=1))


def _profile(path: Path, model: Path | None) -> StorageProfile:
    rates = StorageProfile(check_rates(read_rates_csv(path)).rates)
    if model is not None and model.is_file():
        return StorageProfile(rates.rates, RateModel.from_bytes(model.read_bytes()))
    fitted = rates.fitted()
    if model is not None and fitted.model is not None:
        model.write_bytes(fitted.model.to_bytes())
    return fitted


def traced_run(text: str, catalog: TierCatalog, storage: StorageProfile) -> TracedRun:
    """Read a run and ask the rates for what it did."""
    path, _, tier = text.partition("@tier=")
    observations = read_observations_csv(path)
    if tier:
        observations = IOObservations(observations.frame.assign(tier=tier), observations.scales)
    workflow = workflow_of(observations)
    evidence = anchor_evidence(workflow, catalog, observations, storage)
    if not evidence.anchors:
        raise SystemExit(f"{path}: {evidence.missing}")
    nodes = evidence.anchors[0].nodes
    times = estimate_stage_times(workflow, catalog, TracedVolumes(workflow, observations), storage, nodes)
    rated, volumes = [], []
    for anchor in evidence.anchors:
        at = (times.stages.index(anchor.stage), catalog.index[anchor.tier])
        table = times.read if anchor.operation == "read" else times.write
        rated.append(
            Rated(
                *(anchor.stage, anchor.operation, anchor.profile, nodes, anchor.slot_bytes),
                *(float(table.seconds[at]), float(table.log_sd[at])),
            )
        )
        part = TracedVolumes(workflow, observations).volume(anchor.stage, anchor.operation)
        volumes.append(part.volume_bytes if part else 0.0)
    return TracedRun(Path(path).stem, workflow.name, evidence.anchors, tuple(rated), tuple(volumes))


def workflow_of(observations: IOObservations) -> Workflow:
    """Return the stages of a trace, named by them; their tasks are no more than the trace shows."""
    stages = []
    for name, rows in observations.frame.groupby("stage"):
        tasks = min(int(rows["tasks"].max()), rows["task"].nunique())
        stages.append(Stage(str(name), 1, tasks, {INITIAL_DATA: ()}))
    return Workflow("+".join(stage.name for stage in stages), tuple(stages))


def left_out(runs: Sequence[TracedRun]) -> list[Error]:
    """Return the errors of every run, predicted from all other runs of its workflow."""
    found = []
    for run in runs:
        others = [other for other in runs if other is not run and other.workflow == run.workflow]
        found += _errors(run, [anchor for other in others for anchor in other.anchors])
    return found


def pairs(runs: Sequence[TracedRun]) -> list[Error]:
    """Return the errors of every run, predicted from each other run of its workflow alone."""
    return [
        error
        for run in runs
        for other in runs
        if other is not run and other.workflow == run.workflow
        for error in _errors(run, other.anchors)
    ]


def shrinkage(runs: Sequence[TracedRun]) -> list[Error]:
    """Return the errors when what was traced counts n / (n + k), n its tasks, towards the rates."""
    found = []
    for weight in SHRINKAGE:
        shrunk = [
            TracedRun(r.name, r.workflow, _shrunk(r.anchors, weight), r.rated, r.volume_bytes) for r in runs
        ]
        truth = {id(after): before for after, before in zip(shrunk, runs, strict=True)}
        for run in shrunk:
            others = [o for o in shrunk if o is not run and o.workflow == run.workflow]
            errors = _errors(truth[id(run)], [anchor for other in others for anchor in other.anchors])
            found += [e._replace(method=f"k = {weight:g}") for e in errors if e.method == "anchored"]
    return found


def _shrunk(anchors: Iterable[Anchor], weight: float) -> tuple[Anchor, ...]:
    return tuple(
        a._replace(traced_s=a.rated_s * (a.traced_s / a.rated_s) ** (a.tasks / (a.tasks + weight)))
        for a in anchors
    )


def _errors(run: TracedRun, evidence: Sequence[Anchor]) -> list[Error]:
    found = []
    for truth, rated, volume in zip(run.anchors, run.rated, run.volume_bytes, strict=True):
        known = [a for a in evidence if (a.stage, a.operation) == (truth.stage, truth.operation)]
        if not known:
            continue
        best = anchored(rated, known)
        predictions: dict[str, tuple[float, float]] = {
            "rates alone": (rated.seconds, rated.log_sd),
            "anchored": (best.seconds, best.log_sd) if best else (rated.seconds, rated.log_sd),
        }
        here = [a for a in known if a.profile == truth.profile] or known
        near = min(abs(math.log(a.nodes / truth.nodes)) for a in here)
        nearest = [a for a in here if abs(math.log(a.nodes / truth.nodes)) == near]
        for name, of in _SIMPLE.items():
            logs = [math.log(of(rated, anchor)) for anchor in nearest]
            predictions[name] = (math.exp(float(np.mean(logs))), math.nan)
        kind = _kind(truth, nearest)
        for name, (seconds, log_sd) in predictions.items():
            error = abs(math.log(seconds / truth.traced_s))
            inside = math.nan if math.isnan(log_sd) else float(error <= NORMAL_HALF_WIDTH * log_sd)
            found.append(Error(name, run.workflow, kind, truth.operation, volume > GIB, error, inside))
    return found


_SIMPLE: dict[str, Callable[[Rated, Anchor], float]] = {
    "as long as the other": lambda rated, anchor: anchor.traced_s,
    "factor on the rates": lambda rated, anchor: rated.seconds * anchor.traced_s / anchor.rated_s,
    "traced rate per task": lambda rated, anchor: anchor.traced_s * rated.slot_bytes / anchor.slot_bytes,
}
"""What anchoring is compared with: from runs on the same tier, if any, at the nearest node count."""


def _kind(truth: Anchor, evidence: Sequence[Anchor]) -> str:
    if all(anchor.profile != truth.profile for anchor in evidence):
        return "other tier"
    return "same tier, nodes" if any(anchor.nodes == truth.nodes for anchor in evidence) else "other nodes"


def _rows(errors: Sequence[Error]) -> list[dict[str, Any]]:
    """Return a row per method and group of errors."""
    groups: dict[str, Callable[[Error], bool]] = {"all": lambda e: True, "more than 1 GiB": lambda e: e.large}
    for workflow in dict.fromkeys(e.workflow for e in errors):
        groups[workflow] = lambda e, name=workflow: e.workflow == name  # type: ignore[misc]
    for key in sorted({(e.kind, e.operation) for e in errors}):
        groups[" ".join(key)] = lambda e, name=key: (e.kind, e.operation) == name  # type: ignore[misc]
    rows = []
    for group, belongs in groups.items():
        for method in dict.fromkeys(e.method for e in errors):
            chosen = [e for e in errors if e.method == method and belongs(e)]
            if chosen:
                rows.append(_row(group, method, chosen))
    return rows


def _row(group: str, method: str, errors: Sequence[Error]) -> dict[str, Any]:
    values = [e.error for e in errors]
    inside = [e.inside for e in errors if not math.isnan(e.inside)]
    return {
        "group": group,
        "method": method,
        "predictions": len(values),
        "median": float(np.median(values)),
        "p90": float(np.quantile(values, 0.9)),
        "coverage_90": float(np.mean(inside)) if inside else None,
    }


def _print(title: str, rows: Sequence[dict[str, Any]]) -> None:
    print(f"\n{title:<46}{'method':<23}{'n':>5}{'median':>8}{'p90':>7}{'in 90 %':>9}")
    for row in rows:
        coverage = "" if row["coverage_90"] is None else f"{row['coverage_90']:.0%}"
        print(
            f"{row['group'][:45]:<46}{row['method']:<23}{row['predictions']:>5}"
            f"{row['median']:>8.2f}{row['p90']:>7.2f}{coverage:>9}"
        )


if __name__ == "__main__":
    main()
