"""A whole configuration space under the reference rules, as arrays and one configuration after the other.

    python -m benchmarks.whole_space [BUNDLE] [--tiers beegfs,tmpfs,ssd] [--repeats 5] [--json FILE]

BUNDLE holds a workflow and transfer times (spm.csv); without it a random workflow of nine stages stands in.
Both ways read the same table in the same run, and their makespans are compared before a time is reported.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import best_of, write_report
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import REFERENCE
from qosflow_airflow.core.schedule import Schedule
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer_table import TransferTable, stage_times
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.readers.bundle import read_bundle
from tests.support.instances import platform, random_rows, tiers_of
from tests.support.plain_makespan import Run, reference_run
from tests.support.plain_table import ReferenceTable, Row, table_of


class Case(NamedTuple):
    """A workflow with its table, and the node counts to evaluate it at."""

    workflow: Workflow
    catalog: TierCatalog
    table: TransferTable
    scales: tuple[int, ...]


def main() -> None:
    """Measure, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--tiers", help="shared tier first (default: those of the transfer times)")
    parser.add_argument("--repeats", type=int, default=5, help="the fastest of so many counts")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    tiers = options.tiers.split(",") if options.tiers else None
    case = synthetic() if options.bundle is None else from_bundle(options.bundle, tiers)
    report = compare(case, options.repeats)
    print(f"{report['workflow']}: {report['configurations']:,} configurations of {report['stages']} stages")
    for what, seconds, note in (
        ("arrays", "arrays_s", ""),
        ("plain Python", "plain_s", f"{report['ratio']:.1f} times as long"),
        ("arrays, paths in words", "arrays_with_paths_s", ""),
        ("plain, paths in words", "plain_with_paths_s", f"{report['ratio_with_paths']:.1f} times as long"),
        ("table to stage times", "table_s", "once per scale, not in the above"),
    ):
        print(f"  {what:<24}{report[seconds]:9.4f} s  {note}".rstrip())
    print(f"  largest difference between both makespans: {report['largest_difference_s']:.1e} s")
    write_report(report, options.json, Path(__file__).stem)


def compare(case: Case, repeats: int) -> dict[str, Any]:
    """Return the times of both ways, after checking that they find the same."""
    space = ConfigurationSpace(case.workflow, case.catalog, REFERENCE)
    layouts = space.layouts()
    table_s, models = best_of(1, lambda: models_of(case))
    plains = [plain_way(case, space, layouts, nodes) for nodes in case.scales]

    arrays_s, schedules = best_of(repeats, lambda: [model.schedule(layouts) for model in models])
    plain_s, runs = best_of(max(repeats // 2, 1), lambda: [plain() for plain in plains])
    difference = max(largest_difference(*pair) for pair in zip(schedules, runs, strict=True))
    if difference > 1e-9:
        raise SystemExit(f"the two ways differ by {difference} s: nothing to compare")
    paths_s, paths = best_of(repeats, lambda: [schedule.critical_paths() for schedule in schedules])
    plain_paths_s, plain_paths = best_of(
        repeats, lambda: [[run.critical_path for run in found] for found in runs]
    )
    return {
        "claim": "a whole space at once is faster than one configuration after the other",
        "workflow": case.workflow.name,
        "stages": len(case.workflow.stages),
        "scales": list(case.scales),
        "configurations": len(layouts) * len(case.scales),
        "arrays_s": arrays_s,
        "plain_s": plain_s,
        "ratio": plain_s / arrays_s,
        "arrays_with_paths_s": arrays_s + paths_s,
        "plain_with_paths_s": plain_s + plain_paths_s,
        "ratio_with_paths": (plain_s + plain_paths_s) / (arrays_s + paths_s),
        "equal_critical_paths": paths == plain_paths,
        "table_s": table_s,
        "largest_difference_s": difference,
        "repeats": repeats,
    }


def models_of(case: Case) -> list[MakespanModel]:
    """Return a makespan model per scale, with its tables built."""
    models = []
    for nodes in case.scales:
        times = stage_times(case.table, case.workflow, case.catalog, nodes, REFERENCE)
        models.append(MakespanModel(case.workflow, case.catalog, times, REFERENCE))
        _ = models[-1].legs
    return models


def plain_way(case: Case, space: ConfigurationSpace, layouts: Layouts, nodes: int) -> Callable[[], list[Run]]:
    """Return the loop over all configurations, with every time looked up already."""
    rows = [Row(*row) for row in case.table.frame.itertuples(index=False)]
    cells = ReferenceTable(rows, case.workflow, case.catalog, nodes)
    configurations = [tiers_of(space, layout) for layout in layouts]

    def loop() -> list[Run]:
        return [reference_run(case.workflow, case.catalog, cells, nodes, tiers) for tiers in configurations]

    started = perf_counter()
    loop()
    print(f"  {nodes} nodes: times looked up and configurations run once in {perf_counter() - started:.1f} s")
    return loop


def largest_difference(schedule: Schedule, runs: list[Run]) -> float:
    """Return the largest difference between two makespans of one configuration, seconds."""
    plain = np.array([run.makespan_s for run in runs], dtype=np.float64)
    return float(np.abs(schedule.makespan_s - plain).max())


def from_bundle(path: Path, tiers: list[str] | None) -> Case:
    """Return the case that a bundle holds, at the node counts of its trace."""
    bundle = read_bundle(path, tiers=tiers)
    if bundle.transfer_table is None or bundle.catalog is None:
        raise SystemExit(f"{path} has no transfer times (spm.csv)")
    scales = bundle.observations.scales if bundle.observations else (2, 4, 8)
    return Case(bundle.workflow, bundle.catalog, bundle.transfer_table, scales)


def synthetic() -> Case:
    """Return nine stages in a row, each also reading what a random earlier stage wrote."""
    rng = random.Random(9)  # noqa: S311 - no secret is made of it
    stages = [Stage("stage0", 1, 48, {INITIAL_DATA: ()})]
    for level in range(1, 9):
        reads = {f"stage{level - 1}": (), f"stage{rng.randrange(level)}": ()}
        stages.append(Stage(f"stage{level}", level + 1, rng.choice((1, 16, 48)), reads))
    workflow = Workflow("nine-stages", tuple(stages))
    catalog = platform(("beegfs",), ("tmpfs", "ssd"))
    scales = (2, 4, 8)
    rows = random_rows(rng, workflow, catalog, scales, missing=0.0)
    return Case(workflow, catalog, table_of(rows), scales)


if __name__ == "__main__":
    main()
