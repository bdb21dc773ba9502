"""Makespans with waiting, one layout after the other: slow, and plain enough to be believed."""

from __future__ import annotations

import math

from qosflow_airflow.core.makespan import MakespanModel


def plain_makespan_s(model: MakespanModel, layout: list[int]) -> float:
    """One layout, followed from one end of a stage or copy to the next, in plain Python."""
    costs, found = model.costs, model.costs.contention
    edges, stages = len(costs.legs), len(layout)
    tiers = [*layout, costs.home]
    left, needs, shares = [], [], []
    for leg in costs.legs:
        a, b = tiers[leg.producer], tiers[leg.consumer]
        left.append(float(costs.into_s[leg.edge, a, b] + costs.out_of_s[leg.edge, a, b]))
        needs.append([edges + leg.producer] if leg.producer >= 0 else [])
        shares.append([0.0] if found is None else found.edge_shares[leg.edge, a, b].tolist())
    for s in range(stages):
        left.append(float(costs.execution_s[s, layout[s]]))
        needs.append([leg.edge for leg in costs.legs if leg.consumer == s])
        shares.append([0.0] if found is None else found.stage_shares[s, layout[s]].tolist())
    if any(map(math.isnan, left)):
        return float("nan")
    done: dict[int, float] = {}
    now = 0.0
    while len(done) < len(left):
        ready = [w for w in range(len(left)) if w not in done and all(n in done for n in needs[w])]
        beyond = []
        for r in range(len(shares[0])):
            load = sum(shares[w][r] for w in ready)
            beyond.append((load - 1) * load / sum(shares[w][r] ** 2 for w in ready) if load > 1 else 0.0)
        slower = {}
        for w in ready:
            waits = [share * more for share, more in zip(shares[w], beyond, strict=True)]
            slower[w] = 1 + (max(waits) if w < edges else sum(waits))
        step = min(left[w] * slower[w] for w in ready)
        now += step
        for w in ready:
            left[w] -= step / slower[w]
            if left[w] <= 1e-12:
                done[w] = now
    return max((done[leg.edge] for leg in costs.legs if leg.consumer < 0), default=0.0)
