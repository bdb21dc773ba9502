"""How long an exact answer takes from a stored model of a thousand to a million configurations.

    python -m benchmarks.recommend_latency [--largest N] [--repeats 200] [--cpu] [--json FILE]

What a task waits for is measured: the newest model is read from a store, parsed, and asked. The store is in
memory, as a database's own time is not the question here. Per model the median and the 99th percentile of the
best configuration and its alternatives alone ("best"), and of whole answers, with their intervals, trade-offs
and sensitivities: to the default request ("free"), to one with five constraints ("bound"), and to one that
nothing meets, with its repairs ("infeasible"). Beside them: the same search by looking at everything.
"""

from __future__ import annotations

import argparse
import random
import resource
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.report import write_report
from qosflow_airflow.answers import load_model
from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.search import best, search_of
from qosflow_airflow.core.tiers import NodePool, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.store.memory import MemoryStore
from tests.support.instances import platform, random_times
from tests.support.small_model import publish_model

STAGES_AND_SCALES = ((6, 1), (7, 5), (9, 5), (10, 9), (12, 2))
"""Three tiers: 729, 10,935, 98,415, 531,441 and 1,062,882 configurations."""
GOAL_MS = 50.0
"""What the 99th percentile of the default request should stay below."""
WARM_UP = 3


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--largest", type=int, default=1_100_000, help="leave out models of more configurations"
    )
    parser.add_argument("--repeats", type=int, default=200, help="answers per request")
    parser.add_argument("--cpu", action="store_true", help="processor time, on a machine that is not quiet")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    print(
        f"{'':>14}{'best ms':>16}{'free ms':>16}{'bound ms':>16}{'infeasible ms':>16}{'every one':>11}{'':>7}"
    )
    print(
        f"{'configurations':>14}{''.join(4 * [f'{word:>8}' for word in ('p50', 'p99')])}{'ms':>11}{'MiB':>7}"
    )
    rows = []
    clock = process_time if options.cpu else perf_counter
    for stages, scales in STAGES_AND_SCALES:
        if scales * 3**stages <= options.largest:
            rows.append(measure(synthetic_model(stages, scales), options.repeats, clock))
            row = rows[-1]
            percentiles = (row[f"{name}_{p}_ms"] for name in ("best", *REQUESTS) for p in ("p50", "p99"))
            print(
                f"{row['configurations']:>14,}" + "".join(f"{ms:>8.1f}" for ms in percentiles),
                f"{row['enumeration_ms']:>10.1f}{row['peak_mib']:>7.0f}",
                flush=True,
            )
    for name, what in (("best", "the best configuration"), ("free", "a whole answer")):
        slowest = max(row[f"{name}_p99_ms"] for row in rows)
        met = "met" if slowest <= GOAL_MS else "missed"
        print(f"{what}: the goal of {GOAL_MS:g} ms for the 99th percentile is {met}: {slowest:.1f} ms")
    claim = "an answer from a stored model takes about as long for a million configurations as for a thousand"
    write_report(
        {"claim": claim, "rows": rows, "repeats": options.repeats, "goal_ms": GOAL_MS, "cpu": options.cpu},
        options.json,
        Path(__file__).stem,
    )


CONSTRAINTS: dict[str, Any] = {"allow": ("pfs", "ssd"), "exclude": ("tmpfs",), "pin": {"stage0": "pfs"}}
REQUESTS = {
    "free": QoSRequest(),
    "bound": QoSRequest(deadline_s=1e6, max_nodes=64, **CONSTRAINTS),
    "infeasible": QoSRequest(deadline_s=1e-6, max_nodes=64, **CONSTRAINTS),
}


def measure(model: Model, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Return the percentiles of each request on one model, read anew for every answer."""
    row: dict[str, Any] = {
        "configurations": model.space.size * len(model.scales),
        "stages": len(model.workflow.stages),
        "scales": len(model.scales),
    }
    with MemoryStore() as store:
        times = {scale.nodes: scale.times for scale in model.scales}
        publish_model(store, model.workflow, model.catalog, times)

        def answered(request: QoSRequest) -> str:
            return str(recommend(load_model(store, model.workflow.name).model, request).answer["status"])

        def searched() -> object:
            return best(search_of(load_model(store, model.workflow.name).model), QoSRequest(), 6)

        spent_ms = latencies_ms(searched, repeats, clock)
        row["best_p50_ms"], row["best_p99_ms"] = np.percentile(spent_ms, (50, 99)).tolist()
        for name, request in REQUESTS.items():
            spent_ms = latencies_ms(lambda request=request: answered(request), repeats, clock)  # type: ignore[misc]
            row[f"{name}_p50_ms"], row[f"{name}_p99_ms"] = np.percentile(spent_ms, (50, 99)).tolist()
            if (answered(request) == "infeasible") != (name == "infeasible"):
                raise SystemExit(
                    f"the answer to the {name} request is {answered(request)}: nothing to report"
                )
    every_one_ms = latencies_ms(lambda: best(Enumeration(model), QoSRequest()), WARM_UP, clock)
    row["enumeration_ms"] = min(every_one_ms)
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def latencies_ms(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> list[float]:
    """Return the milliseconds of each of ``repeats`` runs, after a few that do not count."""
    spent = []
    for _ in range(WARM_UP + repeats):
        started = clock()
        run()
        spent.append(1e3 * (clock() - started))
    return spent[WARM_UP:]


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
