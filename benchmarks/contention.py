"""What counting waiting costs: makespans of a whole space, with and without what its work shares.

    python -m benchmarks.contention [--stages 5,7,9] [--answers 7,9,15] [--repeats 5] [--json FILE]
    python -m benchmarks.contention --validation DIR

The workflows are random, on one shared and two local tiers. Both ways evaluate the same layouts in the same
run. A plain loop that follows one layout after the other stands beside them, on some of the layouts, and must
find the same. Then whole answers at five node counts, by models that tell what work shares and by the same
models without.

With a folder of `qosflow validate`, its runs are held against its model with waiting and without instead.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import best_of, write_report
from qosflow_airflow.core.concordance import concordance
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.validation import validated
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.validation import validation_runs
from tests.support.instances import platform, random_demand, random_times, random_workflow
from tests.support.plain_contention import plain_makespan_s

PLAIN = 50
"""Layouts that the plain loop follows."""


def main() -> None:
    """Measure, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stages", default="5,7,9", help="of each workflow")
    parser.add_argument("--answers", default="7,9,15", help="stages of workflows that are asked about")
    parser.add_argument("--repeats", type=int, default=5, help="the fastest of so many counts")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    parser.add_argument("--validation", type=Path, help="a folder that qosflow validate has written")
    options = parser.parse_args()
    if options.validation is not None:
        hold_against_runs(options.validation)
        return
    rows = [compare(int(stages), options.repeats) for stages in options.stages.split(",")]
    for row in rows:
        print(
            f"{row['stages']} stages, {row['edges']} edges: {row['configurations']:,} configurations in "
            f"{row['shared_s']:.3f} s, {row['us_a_configuration']:.1f} us each; "
            f"{row['ratio_to_alone']:.1f} times as long as without waiting, "
            f"1/{row['ratio_of_plain']:.0f} of a plain loop"
        )
    answers = [answer(int(stages)) for stages in options.answers.split(",")]
    for found in answers:
        proven = "" if found["proven"] else " without proof"
        print(
            f"{found['stages']} stages, {found['edges']} edges, {found['configurations']:.1e} in all: "
            f"an answer in {found['shared_s']:.2f} s{proven}, {found['alone_s']:.2f} s without waiting"
        )
    claim = "waiting is counted in microseconds a configuration"
    write_report({"claim": claim, "rows": rows, "answers": answers}, options.json, Path(__file__).stem)


def compare(stages: int, repeats: int) -> dict[str, Any]:
    """Return what a random workflow's space takes each way."""
    rng = random.Random(stages)  # noqa: S311
    workflow, catalog = _of(stages, rng), platform(("pfs",), ("ssd", "tmpfs"))
    times = random_demand(rng, random_times(rng, workflow, catalog, 4))
    shared = MakespanModel(workflow, catalog, times, COMPLETE)
    alone = MakespanModel(workflow, catalog, replace(times, demand=None), COMPLETE)
    layouts = shared.space.layouts()
    shared_s, found = best_of(repeats, lambda: shared.makespan_s(layouts))
    alone_s, _ = best_of(repeats, lambda: alone.makespan_s(layouts))
    some = np.arange(0, len(layouts), max(1, len(layouts) // PLAIN))
    plain_s, plain = best_of(1, lambda: [plain_makespan_s(shared, row) for row in layouts[some].tolist()])
    if not np.allclose(found[some], plain):
        raise SystemExit("the plain loop finds other makespans")
    return {
        "stages": stages,
        "edges": len(times.edges),
        "configurations": len(layouts),
        "shared_s": shared_s,
        "alone_s": alone_s,
        "us_a_configuration": shared_s / len(layouts) * 1e6,
        "ratio_to_alone": shared_s / alone_s,
        "ratio_of_plain": plain_s / len(some) / (shared_s / len(layouts)),
    }


def hold_against_runs(folder: Path) -> None:
    """Print how well makespans with waiting, and without, order and foretell the runs of a validation."""
    model, runs = validation_runs(folder)
    shared = model.makespans(model.nodes[0])
    for name, makespans in (
        ("with waiting", shared),
        ("without", replace(shared, times=replace(shared.times, demand=None))),
    ):
        found = validated(makespans, runs)
        predicted = np.array([one.predicted_s for one in found])
        measured = np.array([one.measured_s for one in found])
        errors = np.abs(predicted / measured - 1)
        print(
            f"{name}: concordance {concordance(predicted, measured):.3f}, error {np.median(errors):.1%} "
            f"in the median and {np.quantile(errors, 0.9):.1%} at the worst tenth, "
            f"of {len(found)} configurations"
        )


def answer(stages: int) -> dict[str, Any]:
    """Return what an answer about a random workflow takes, in a space of five node counts."""
    rng = random.Random(stages)  # noqa: S311
    workflow, catalog = _of(stages, rng), platform(("pfs",), ("ssd", "tmpfs"))
    alone = [random_times(rng, workflow, catalog, nodes) for nodes in (1, 2, 4, 8, 16)]
    shared = [random_demand(rng, times) for times in alone]
    found: dict[str, Any] = {"stages": stages, "edges": len(workflow.edges)}
    for name, scales in (("alone", alone), ("shared", shared)):
        model = Model(workflow, catalog, COMPLETE, tuple(ScaleModel(t.nodes, t) for t in scales))
        found[f"{name}_s"], answered = best_of(1, lambda model=model: recommend(model, QoSRequest()))
        found["proven"] = answered.answer["optimality"]["proven"]
        found["configurations"] = model.space.size * len(scales)
    return found


def _of(stages: int, rng: random.Random) -> Workflow:
    while len((workflow := random_workflow(rng, stages)).stages) < stages:
        pass
    return workflow


if __name__ == "__main__":
    main()
