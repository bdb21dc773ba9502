"""The leading configurations of a model, with their intervals and how likely each is the best one.

    python benchmarks/leading_configurations.py MODEL [--count 6] [--within 0.05] [--json FILE]

MODEL is a folder that ``qosflow build --output`` wrote. A configuration is tied with the best where it is
within the given share of it in at least every second draw.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from qosflow_airflow.core.enumeration import Enumeration
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.search import ConfidentSearch, best
from qosflow_airflow.core.uncertainty import shares_of_best
from qosflow_airflow.store.model_folder import read_model_folder


def main() -> None:
    """Print a table per node count, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=6, help="configurations per node count")
    parser.add_argument("--drawn", type=int, default=100, help="how many of the best are drawn")
    parser.add_argument("--within", type=float, default=0.05, help="share that makes no difference")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = read_model_folder(options.model)
    print("stages:", " ".join(model.workflow.stage_names))
    print(f"{'nodes':>5}{'estimate':>10}{'p05':>8}{'p50':>8}{'p95':>8}{'P(best)':>9}{'P(tied)':>9}  layout")
    rows = []
    for nodes in model.nodes:
        for row in leading(model, nodes, options.drawn, options.within)[: options.count]:
            rows.append(row)
            figures = "".join(f"{row[name]:>8.1f}" for name in ("p05_s", "p50_s", "p95_s"))
            print(
                f"{nodes:>5}{row['makespan_s']:>10.1f}{figures}{row['p_best']:>9.2f}{row['p_tied']:>9.2f}"
                f"  {' '.join(row['tiers'].values())}"
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def leading(model: Model, nodes: int, drawn: int, within: float) -> list[dict[str, Any]]:
    """Return the configurations at a node count, the most likely best ones first."""
    alone = Model(model.workflow, model.catalog, model.rules, (model.scale(nodes),))
    search = ConfidentSearch(alone, Enumeration(alone))
    found = best(search, QoSRequest(), drawn)
    draws = search.draws(nodes)
    makespans_s = [draws.makespan_s(candidate.layout) for candidate in found]
    p_best, p_tied = shares_of_best(makespans_s), shares_of_best(makespans_s, within)
    rows = []
    for at, candidate in enumerate(found):
        layout = np.array(candidate.layout, dtype=np.int8)
        rows.append(
            {
                "nodes": nodes,
                "makespan_s": candidate.makespan_s,
                **(draws.quantiles_s(candidate.layout) or {}),
                "p_best": float(p_best[at]),
                "p_tied": float(p_tied[at]),
                "tiers": dict(model.space.configuration(nodes, layout).tiers),
            }
        )
    return sorted(rows, key=lambda row: -row["p_best"])


if __name__ == "__main__":
    main()
