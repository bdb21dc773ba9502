"""How long an exact answer takes, on models of a thousand to a million configurations.

    python -m benchmarks.recommend_latency [--largest 1000000] [--repeats 3] [--json FILE]

Three requests each: one without constraints; one that nothing meets, where every set of its five constraints
is tried as a repair; and one with five constraints that can be met.
"""

from __future__ import annotations

import argparse
import random
import resource
from pathlib import Path
from typing import Any

from benchmarks.report import best_of, write_report
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.tiers import NodePool, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from tests.support.instances import platform, random_times

STAGES_AND_SCALES = ((6, 1), (7, 5), (9, 5), (10, 9), (12, 2))
"""Three tiers: 729, 10,935, 98,415, 531,441 and 1,062,882 configurations."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--largest", type=int, default=1_100_000, help="leave out models of more configurations"
    )
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many counts")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    print(f"{'configurations':>14}{'free s':>9}{'infeasible s':>14}{'bound s':>9}{'µs each':>9}{'MiB':>7}")
    rows = []
    for stages, scales in STAGES_AND_SCALES:
        if scales * 3**stages <= options.largest:
            rows.append(measure(synthetic_model(stages, scales), options.repeats))
            print(
                f"{rows[-1]['configurations']:>14,}{rows[-1]['free_s']:>9.3f}{rows[-1]['infeasible_s']:>14.3f}"
                f"{rows[-1]['bound_s']:>9.3f}{rows[-1]['us_per_configuration']:>9.2f}{rows[-1]['peak_mib']:>7.0f}"
            )
    more = rows[-1]["configurations"] / rows[0]["configurations"]
    longer = rows[-1]["free_s"] / rows[0]["free_s"]
    print(f"{more:,.0f} times the configurations take {longer:,.0f} times as long")
    claim = "an exact answer takes time in proportion to the configurations, and memory that is bounded"
    write_report(
        {"claim": claim, "rows": rows, "repeats": options.repeats}, options.json, Path(__file__).stem
    )


def measure(model: Model, repeats: int) -> dict[str, Any]:
    """Return the seconds of the three requests on one model."""
    free_s, best = best_of(repeats, lambda: recommend(model, QoSRequest()))
    constraints: dict[str, Any] = {
        "max_nodes": model.nodes[-1],
        "allow": ("pfs", "ssd"),
        "exclude": ("tmpfs",),
        "pin": {"stage0": "pfs"},
    }
    infeasible_s, none = best_of(
        repeats, lambda: recommend(model, QoSRequest(deadline_s=1e-6, **constraints))
    )
    bound_s, bound = best_of(repeats, lambda: recommend(model, QoSRequest(deadline_s=1e6, **constraints)))
    statuses = [found.answer["status"] for found in (best, none, bound)]
    if statuses != ["feasible", "infeasible", "feasible"]:
        raise SystemExit(f"unexpected answers {statuses}: nothing to report")
    configurations = model.space.size * len(model.scales)
    return {
        "configurations": configurations,
        "stages": len(model.workflow.stages),
        "scales": len(model.scales),
        "free_s": free_s,
        "infeasible_s": infeasible_s,
        "bound_s": bound_s,
        "us_per_configuration": 1e6 * free_s / configurations,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def synthetic_model(stages: int, scales: int) -> Model:
    """Return a model of random times: stages in a row, each also reading from a random earlier one."""
    rng = random.Random(stages)  # noqa: S311 - no secret is made of it
    found = [Stage("stage0", 1, 48, {INITIAL_DATA: ()})]
    for level in range(1, stages):
        reads = {f"stage{level - 1}": (), f"stage{rng.randrange(level)}": ()}
        found.append(Stage(f"stage{level}", level + 1, rng.choice((1, 16, 48)), reads))
    workflow = Workflow("synthetic", tuple(found))
    tiers = platform(("pfs",), ("tmpfs", "ssd"))
    catalog = TierCatalog(tiers.tiers, node=NodePool(price_per_hour=1.0))
    times = [random_times(rng, workflow, catalog, 2**scale) for scale in range(scales)]
    return Model(workflow, catalog, COMPLETE, tuple(ScaleModel(t.nodes, t) for t in times))


if __name__ == "__main__":
    main()
