"""How the complete rules change the answer of a bundle with transfer times, one difference at a time.

    python benchmarks/rule_differences.py BUNDLE --tiers beegfs,tmpfs,ssd [--scales 2,5,10] [--json FILE]

Starting from the reference rules, each difference is switched on alone; the last row is all of them together.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, MakespanRules
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.transfer_table import stage_times
from qosflow_airflow.readers.bundle import Bundle, read_bundle


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--tiers", required=True, help="shared tier first, then local ones from fastest to slowest"
    )
    parser.add_argument("--scales", help="node counts (default: those of the observations)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bundle = read_bundle(options.bundle, tiers=options.tiers.split(","))
    scales = [int(nodes) for nodes in options.scales.split(",")] if options.scales else _observed(bundle)
    rows = [row for nodes in scales for row in differences(bundle, nodes)]
    print(f"{'nodes':>5}  {'rules':<32}{'layouts':>8}{'best s':>10}{'ratio':>7}  best layout")
    for row in rows:
        layout = " ".join(tier[:6] for tier in row["best_layout"].values())
        print(
            f"{row['nodes']:>5}  {row['rules']:<32}{row['layouts']:>8}{row['best_s']:>10.3f}"
            f"{row['ratio']:>7.2f}  {layout}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def differences(bundle: Bundle, nodes: int) -> list[dict[str, Any]]:
    """Return the best layout under the reference rules, under each single difference, and under all."""
    switches = [name for name in MakespanRules._fields if name != "name"]
    variants = {"reference": REFERENCE}
    variants |= {name: REFERENCE._replace(**{name: getattr(COMPLETE, name)}) for name in switches}
    variants["complete"] = COMPLETE
    rows = [best(bundle, nodes, name, rules) for name, rules in variants.items()]
    for row in rows:
        row["ratio"] = row["best_s"] / rows[0]["best_s"]
    return rows


def best(bundle: Bundle, nodes: int, name: str, rules: MakespanRules) -> dict[str, Any]:
    """Return the best layout of a bundle under one set of rules."""
    if bundle.transfer_table is None or bundle.catalog is None:
        raise SystemExit(f"{bundle.path} has no transfer times")
    times = stage_times(bundle.transfer_table, bundle.workflow, bundle.catalog, nodes, rules)
    model = MakespanModel(bundle.workflow, bundle.catalog, times, rules)
    space = ConfigurationSpace(bundle.workflow, bundle.catalog, rules)
    layouts = space.layouts()
    makespan_s = model.makespan_s(layouts)
    at = int(np.nanargmin(makespan_s))
    return {
        "nodes": nodes,
        "rules": name,
        "layouts": len(layouts),
        "best_s": float(makespan_s[at]),
        "best_layout": dict(space.configuration(nodes, layouts[at]).tiers),
    }


def _observed(bundle: Bundle) -> tuple[int, ...]:
    if bundle.observations is None:
        raise SystemExit(f"{bundle.path} names no node counts: give --scales")
    return bundle.observations.scales


if __name__ == "__main__":
    main()
