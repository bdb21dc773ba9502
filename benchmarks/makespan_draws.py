"""How long it takes to draw the makespans of many configurations, and whether the intervals hold.

    python -m benchmarks.makespan_draws [--layouts 1000] [--draws 10000] [--workflows 1000] [--json FILE]

Speed: 10,000 draws of 1,000 configurations of a workflow of nine stages, beside evaluating the same
configurations once per draw as arrays of configurations (measured on a share of the draws).

Coverage: for each of so many random workflows a truth is drawn from its model, from other random numbers. The
share of truths inside the interval of 90 %, and the share of promises kept when the best configuration that
keeps a deadline with 95 % confidence is taken. Truths come from the model itself: this shows that the
intervals say what the model says, not that the model is right.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recommend_latency import synthetic_model
from benchmarks.report import best_of, write_report
from qosflow_airflow.core.confidence import ConfidentSearch
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.search import search_of
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws
from tests.support.models import random_model

PLAIN_DRAWS = 20
CONFIDENCE = 0.95
TRUTH_SEED = 7


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layouts", type=int, default=1000, help="configurations")
    parser.add_argument("--draws", type=int, default=10_000, help="draws of each")
    parser.add_argument("--workflows", type=int, default=1000, help="random workflows for the coverage")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    speed = measure_speed(options.layouts, options.draws)
    print(
        f"{options.draws:,} draws of {options.layouts:,} configurations: {speed['seconds']:.2f} s, "
        f"{speed['ratio']:.1f} times faster than evaluating them once per draw"
    )
    coverage = measure_coverage(options.workflows)
    print(
        f"{options.workflows:,} workflows: {coverage['coverage_90']:.1%} of truths in the interval of 90 %; "
        f"{coverage['kept']:.1%} of {coverage['promises']:,} promises at {CONFIDENCE:.0%} kept, "
        f"{coverage['expected']:.1%} expected"
    )
    claim = "drawing makespans is quick, and their intervals hold as often as they say"
    write_report({"claim": claim, "speed": speed, "coverage": coverage}, options.json, Path(__file__).stem)


def measure_speed(count: int, draws: int) -> dict[str, Any]:
    """Return the seconds of drawing ``count`` configurations, and the ratio to the plain way."""
    model = synthetic_model(9, 1)
    nodes = model.nodes[0]
    layouts = np.random.default_rng(1).permutation(model.space.layouts())[:count]

    def drawn() -> None:
        found = MakespanDraws(model.makespans(nodes), FactorDraws(draws))
        for layout in layouts.tolist():
            np.quantile(found.makespan_s(layout), [0.05, 0.5, 0.95])

    seconds, _ = best_of(3, drawn)
    makespans = model.makespans(nodes)
    plain_s, _ = best_of(3, lambda: [makespans.makespan_s(layouts) for _ in range(PLAIN_DRAWS)])
    return {
        "layouts": count,
        "draws": draws,
        "seconds": seconds,
        "ratio": plain_s / PLAIN_DRAWS * draws / seconds,
    }


def measure_coverage(workflows: int) -> dict[str, Any]:
    """Return how often intervals and promises hold when truths are drawn from the model."""
    inside, kept, expected = [], [], []
    started = time.monotonic()
    for seed in range(workflows):
        rng = random.Random(seed)  # noqa: S311  # no secret is made of it
        model = random_model(rng, COMPLETE, unknown=0.0)
        search = ConfidentSearch(model, search_of(model))
        best = next(iter(search.search.in_order(QoSRequest())))
        found = search.draws(best.nodes).quantiles_s(best.layout)
        assert found is not None
        truth_s = truth(model, best.nodes, best.layout, seed)
        inside.append(found["p05_s"] <= truth_s <= found["p95_s"])
        deadline_s = best.makespan_s * rng.uniform(1.0, 2.0)
        sure = next(search.in_order(QoSRequest(deadline_s=deadline_s, confidence=CONFIDENCE)), None)
        if sure is not None:
            kept.append(truth(model, sure.nodes, sure.layout, seed) <= deadline_s)
            expected.append(search.probability(sure, deadline_s))
    return {
        "workflows": workflows,
        "coverage_90": float(np.mean(inside)),
        "promises": len(kept),
        "kept": float(np.mean(kept)),
        "expected": float(np.mean(expected)),
        "seconds": time.monotonic() - started,
    }


def truth(model: Model, nodes: int, layout: tuple[int, ...], seed: int) -> float:
    """Return one makespan from random numbers of its own."""
    rng = np.random.default_rng([TRUTH_SEED, seed])
    one = replace(FactorDraws(count=1001, seed=int(rng.integers(1 << 31))))
    return float(
        np.broadcast_to(MakespanDraws(model.makespans(nodes), one).makespan_s(layout), 1001)[
            int(rng.integers(1001))
        ]
    )


if __name__ == "__main__":
    main()
