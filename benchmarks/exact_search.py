"""How long the best configuration and its proof take, on spaces that nobody can enumerate.

    python -m benchmarks.exact_search [--quick] [--seeds 5] [--json FILE]

Workflows are chains, fan-outs with a join, chains of diamonds, layers, and sparse and dense random DAGs, with
1 to 10 nodes. Times are either independent random numbers ("random"), which no structure helps with, or
volumes over rates ("rates"), where tiers are nearly alike for all stages. Per row: the slowest and the median
of several seeds, each in a process of its own, for the best configuration with its proof, and for a whole
recommendation (Pareto front, sensitivities, alternatives). Where the space can be enumerated, so it is, and
both answers must be the same.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import resource
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.report import write_report
from qosflow_airflow.core.branch_and_bound import BranchAndBound, Queue
from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, RULES
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.search import best
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance, StageTimes
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from tests.support.instances import random_times

Producers = list[list[int]]
ENUMERABLE = 1_500_000
"""Configurations that are enumerated beside the search."""
NODE_COUNTS = 10


def chain(stages: int, rng: random.Random) -> Producers:
    """One stage after the other."""
    return [[s - 1] if s else [] for s in range(stages)]


def fan_out(stages: int, rng: random.Random) -> Producers:
    """One stage feeds all others, and the last one joins them."""
    return [[], *([0] for _ in range(stages - 2)), list(range(1, stages - 1))]


def diamonds(stages: int, rng: random.Random) -> Producers:
    """Three stages side by side between two others, again and again."""
    found: Producers = [[]]
    while len(found) < stages:
        fork = len(found) - 1
        width = min(3, stages - len(found) - 1)
        middle = list(range(len(found), len(found) + width))
        found += [[fork] for _ in middle]
        found.append(middle or [fork])
    return found[:stages]


def layered(stages: int, rng: random.Random) -> Producers:
    """Five stages side by side, each reading from half of those before."""
    found: Producers = []
    for stage in range(stages):
        first = stage // 5 * 5
        before = list(range(first - 5, first)) if first else []
        found.append([p for p in before if rng.random() < 0.5] or before[:1])
    return found


def sparse(stages: int, rng: random.Random) -> Producers:
    """A random DAG with about 1.5 edges per stage."""
    return [[p for p in range(s) if rng.random() < 3 / stages] for s in range(stages)]


def dense(stages: int, rng: random.Random) -> Producers:
    """A random DAG with an edge between almost every second pair of stages."""
    return [[p for p in range(s) if rng.random() < 0.45] for s in range(stages)]


FAMILIES: dict[str, Callable[[int, random.Random], Producers]] = {
    each.__name__: each for each in (chain, fan_out, diamonds, layered, sparse, dense)
}


def instance(family: str, stages: int, tiers: int, rules: str, times: str, seed: int) -> Model:
    """Return a model of 1 to 10 nodes."""
    rng = random.Random(seed)  # noqa: S311 - no secret is made of it
    workflow = _workflow(FAMILIES[family](stages, rng), rng)
    shared = 2 if tiers > 3 else 1
    catalog = TierCatalog(
        tuple(StorageTier(f"{'pfs' if t < shared else 'local'}{t}", shared=t < shared) for t in range(tiers)),
        node=NodePool(price_per_hour=1.0),
    )
    make = random_times if times == "random" else times_of_rates
    scales = (make(rng, workflow, catalog, nodes) for nodes in range(1, NODE_COUNTS + 1))
    return Model(workflow, catalog, RULES[rules], tuple(ScaleModel(each.nodes, each) for each in scales))


def _workflow(producers: Producers, rng: random.Random) -> Workflow:
    levels: list[int] = []
    stages = []
    for s, before in enumerate(producers):
        levels.append(1 + max((levels[p] for p in before), default=0))
        reads = {f"s{p}": () for p in before} or {INITIAL_DATA: ()}
        stages.append(Stage(f"s{s}", levels[s], rng.choice((1, 4, 16, 48)), reads))
    return Workflow("synthetic", tuple(stages))


def times_of_rates(rng: random.Random, workflow: Workflow, catalog: TierCatalog, nodes: int) -> StageTimes:
    """Return volumes over rates: shared tiers share theirs, local tiers bring one per node."""
    generator = np.random.default_rng(rng.getrandbits(32))
    times = random_times(rng, workflow, catalog, nodes)
    stages, tiers = times.read.seconds.shape
    rate = np.array(
        [200.0 if shared else 500 * (t + 1) * nodes**0.8 for t, shared in enumerate(catalog.shared)]
    )
    rate = rate * generator.uniform(0.8, 1.25, tiers)
    volume = generator.lognormal(7, 1.2, stages)

    def noisy(seconds: np.ndarray) -> np.ndarray:
        return np.asarray(seconds * generator.lognormal(0, 0.1, seconds.shape))

    times.read.seconds[...] = noisy(generator.permutation(volume)[:, None] / rate)
    times.write.seconds[...] = noisy(volume[:, None] / rate)
    times.compute.seconds[...] = generator.lognormal(2, 1, stages)
    for e, (producer, _) in enumerate(workflow.edges):
        moved = volume[workflow.index[producer]] if producer in workflow.index else float(volume.mean())
        copy = 1.5 * moved / np.minimum(rate[:, None], rate)
        times.stage_in.seconds[e], times.stage_out.seconds[e] = noisy(copy), noisy(copy)
    for table in (times.read, times.write, times.compute, times.stage_in, times.stage_out):
        table.provenance[...] = Provenance.MEASURED
    return times


def measure(case: tuple[Any, ...]) -> dict[str, float]:
    """Return seconds and boxes of one instance; runs in a process of its own, so that the peak is its own."""
    model = instance(*case)
    started = perf_counter()
    search = BranchAndBound(model)
    queue = Queue(model, QoSRequest(), search.scales)
    found = next(queue.candidates(search.most_work))
    proof_s = perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = perf_counter()
    recommend(model, QoSRequest())
    row = {
        "proof_s": proof_s,
        "proven": float(queue.gave_up_at is None),
        "recommend_s": perf_counter() - started,
        "boxes": float(queue.boxes_bounded),
        "peak_mib": peak_mib,
    }
    if model.space.size * len(model.scales) <= ENUMERABLE:
        started = perf_counter()
        (expected,) = best(Enumeration(model), QoSRequest())
        row["enumeration_s"] = perf_counter() - started
        row["enumeration_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if expected != found:
            raise SystemExit(f"{case}: found {found}, enumeration found {expected}")
    return row


def measured(case: tuple[Any, ...], seeds: int) -> dict[str, Any]:
    """Measure one kind of instance for several seeds."""
    rows = []
    for seed in range(seeds):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            rows.append(pool.apply(measure, ((*case, seed),)))
    family, stages, tiers, rules, times = case
    return {
        "family": family,
        "stages": stages,
        "tiers": tiers,
        "rules": rules,
        "times": times,
        "log10_configurations": math.log10(NODE_COUNTS) + stages * math.log10(tiers),
        "proven": all(row["proven"] for row in rows),
        **{f"{name}_median": median(row[name] for row in rows) for name in ("proof_s", "recommend_s")},
        **{f"{name}_max": max(row[name] for row in rows) for name in ("proof_s", "recommend_s", "boxes")},
        "peak_mib": max(row["peak_mib"] for row in rows),
        "enumeration_s": median(row["enumeration_s"] for row in rows) if "enumeration_s" in rows[0] else None,
        "enumeration_peak_mib": max(row.get("enumeration_peak_mib", 0.0) for row in rows) or None,
    }


def growth(rows: list[dict[str, Any]], family: str) -> float:
    """Return the exponent with which the seconds of a family grow with its stages (least squares on logs)."""
    points = [(row["stages"], row["proof_s_median"]) for row in rows if row["family"] == family]
    stages, seconds = np.log(np.array(points)).T
    return float(np.polyfit(stages, seconds, 1)[0])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="instances per row")
    parser.add_argument("--quick", action="store_true", help="only the largest spaces")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    print(
        f"{'rules':<10}{'times':<8}{'family':<10}{'S x T':>7}{'configs':>9}{'proof s':>9}{'max':>7}"
        f"{'boxes':>7}{'recommend s':>13}{'max':>7}{'MiB':>5}{'enumeration s':>15}"
    )
    growing: list[dict[str, Any]] = []
    if not options.quick:
        sizes = [(6, 5), (7, 5), (10, 3), (10, 5), (15, 5), (20, 5), (30, 3), (30, 5), (30, 8), (50, 5)]
        for family in FAMILIES:
            growing += [_row((family, *size, "complete", "rates"), options.seeds) for size in sizes]
    largest = [
        _row((family, 30, 5, rules.name, times), options.seeds)
        for rules in (COMPLETE, REFERENCE)
        for times in ("random", "rates")
        for family in FAMILIES
    ]
    fives = [row for row in growing if row["tiers"] == 5]
    exponents = {family: growth(fives, family) for family in FAMILIES} if fives else {}
    for family, exponent in exponents.items():
        print(f"{family}: seconds grow with the stages to the power of {exponent:.1f}")
    claim = "the best of a space that cannot be enumerated, with its proof, within a second"
    report = {"claim": claim, "growing": growing, "largest": largest, "growth_exponents": exponents}
    write_report(report, options.json, Path(__file__).stem)


def _row(case: tuple[Any, ...], seeds: int) -> dict[str, Any]:
    row = measured(case, seeds)
    enumeration = "" if row["enumeration_s"] is None else f"{row['enumeration_s']:.3f}"
    configurations = f"1e{row['log10_configurations']:.0f}"
    size = f"{row['stages']} x {row['tiers']}"
    print(
        f"{row['rules']:<10}{row['times']:<8}{row['family']:<10}{size:>7}"
        f"{configurations:>9}{row['proof_s_median']:>9.3f}{row['proof_s_max']:>7.2f}"
        f"{row['boxes_max']:>7.0f}{row['recommend_s_median']:>13.2f}{row['recommend_s_max']:>7.2f}"
        f"{row['peak_mib']:>5.0f}{enumeration:>15}{'' if row['proven'] else '  NOT PROVEN'}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
