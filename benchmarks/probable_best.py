"""Which configurations of a bundle may be the best, by how sure its times are.

    python benchmarks/probable_best.py BUNDLE --profile CSV --tiers beegfs,tmpfs,ssd [--scales 2,5,10]

Estimates from observations and rates, complete rules, no table of transfer times. Everything uncertain is
drawn 10,000 times, the same draws for all configurations; a configuration counts as best in a draw when none
is better by more than 5 %. So ties count for all of them, and the shares add up to more than one. ``--model
FILE`` keeps the fitted law, so that it is fitted once; ``--anchored`` holds times against the trace.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qosflow_airflow.core.anchor_evidence import anchor_evidence
from qosflow_airflow.core.estimate import estimate_stage_times
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.profile import StorageProfile
from qosflow_airflow.core.rate_checks import check_rates
from qosflow_airflow.core.rate_model import RateModel
from qosflow_airflow.core.scaling import project
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.uncertainty import FactorDraws, MakespanDraws, shares_of_best
from qosflow_airflow.core.volumes import TracedVolumes
from qosflow_airflow.readers.bundle import Bundle, read_bundle
from qosflow_airflow.readers.rates_csv import read_rates_csv

TOLERANCE = 0.05
SHOWN = 5


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--tiers", required=True, help="shared tier first")
    parser.add_argument("--scales", help="node counts (default: those of the observations)")
    parser.add_argument("--model", type=Path, metavar="FILE", help="read the fitted law, or keep it here")
    parser.add_argument("--anchored", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bundle = read_bundle(options.bundle, tiers=options.tiers.split(","))
    storage = fitted(options.profile, options.model)
    observed = bundle.observations.scales if bundle.observations is not None else ()
    scales = [int(nodes) for nodes in options.scales.split(",")] if options.scales else observed
    rows = [row for nodes in scales for row in leading(bundle, storage, nodes, options.anchored)]
    print(f"{'nodes':>5}{'median s':>10}{'p05':>8}{'p95':>8}{'may be best':>13}  tiers")
    for row in rows:
        print(
            f"{row['nodes']:>5}{row['makespan_s']:>10.2f}{row['p05_s']:>8.2f}{row['p95_s']:>8.2f}"
            f"{row['p_best']:>13.2f}  {' '.join(row['tiers'])}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def fitted(path: Path, model: Path | None) -> StorageProfile:
    """Return a profile with its law, read from ``model`` where that exists and kept there otherwise."""
    rates = check_rates(read_rates_csv(path)).rates
    if model is not None and model.is_file():
        return StorageProfile(rates, RateModel.from_bytes(model.read_bytes()))
    found = StorageProfile(rates).fitted()
    if model is not None and found.model is not None:
        model.write_bytes(found.model.to_bytes())
    return found


def leading(
    bundle: Bundle, storage: StorageProfile, nodes: int, with_anchors: bool = False
) -> list[dict[str, Any]]:
    """Return the configurations at ``nodes`` that are most often the best, the most likely first."""
    if bundle.observations is None or bundle.catalog is None:
        raise SystemExit(f"{bundle.path} has no observations")
    workflow, catalog = bundle.workflow, bundle.catalog
    evidence = anchor_evidence(workflow, catalog, bundle.observations, storage)
    anchors = evidence.anchors if with_anchors else ()
    volumes = TracedVolumes(workflow, project(bundle.observations, nodes))
    times = estimate_stage_times(workflow, catalog, volumes, storage, nodes, COMPLETE, anchors)
    makespans = MakespanModel(workflow, catalog, times, COMPLETE)
    layouts = np.concatenate(list(ConfigurationSpace(workflow, catalog, COMPLETE).blocks()))
    draws = MakespanDraws(makespans, FactorDraws())
    layouts = layouts[draws.known(layouts) & ~np.isnan(makespans.makespan_s(layouts))]
    drawn = [draws.makespan_s(layout) for layout in layouts]
    return _rows(nodes, layouts, makespans, drawn, catalog.names)


def _rows(
    nodes: int,
    layouts: np.ndarray,
    makespans: MakespanModel,
    drawn: Sequence[np.ndarray],
    tiers: Sequence[str],
) -> list[dict[str, Any]]:
    shares = shares_of_best(drawn, TOLERANCE)
    seconds = makespans.makespan_s(layouts)
    order = np.lexsort((seconds, -shares))[:SHOWN]
    return [
        {
            "nodes": nodes,
            "tiers": [tiers[t] for t in layouts[at]],
            "makespan_s": float(seconds[at]),
            "p05_s": float(np.quantile(drawn[at], 0.05)),
            "p95_s": float(np.quantile(drawn[at], 0.95)),
            "p_best": float(shares[at]),
        }
        for at in order
    ]


if __name__ == "__main__":
    main()
