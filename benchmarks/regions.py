"""Regions against concordance, held out, beside a random forest on the same folds and what was published.

    python -m benchmarks.regions BUNDLE [--rules reference] [--scales 2,5,10] [--refit all|N|0] [--json FILE]

BUNDLE holds a workflow and transfer times (spm.csv); without it a random workflow stands in. Per scale: the
curve of regions that hold two rules on average (the default) and of regions that are one rule each, the knee
that a build takes, the forest, and, where the bundle holds them, the number of regions and the held-out
concordance that were published (expected_summary.json).

The time is compared with the published way of choosing a tree, run in the same process: one tree on all
scales by absolute error, fitted again for every price of its pruning path in every fold. With ``--refit N``
only N of these fits are made, evenly spread, and their time is scaled up to all of them. Times are those of
the processor, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.report import write_report
from benchmarks.whole_space import Case, from_bundle, synthetic
from qosflow_airflow.core.concordance import concordance
from qosflow_airflow.core.conditions import tiers_of_stages, truths
from qosflow_airflow.core.configurations import EvaluatedConfigurations, evaluate_space
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE, MakespanRules, rules_named
from qosflow_airflow.core.region_choice import CrossValidation
from qosflow_airflow.core.region_fit import RegionOptions, fit_regions
from qosflow_airflow.core.regions import RegionSet
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.stage_roles import layout_codes
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.core.transfer_table import stage_times

SHOWN = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 18, 24, 32, 40)
FOREST_FOLDS_OF = 5000
"""Of more layouts the forest sees one repeat of the folds only."""


def main() -> None:
    """Fit, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--tiers", help="shared tier first (default: those of the transfer times)")
    parser.add_argument("--rules", choices=("complete", "reference"), default=COMPLETE.name)
    parser.add_argument("--scales", help="node counts, as in 2,5,10 (default: those of the bundle)")
    parser.add_argument(
        "--refit", default="40", help="fits of the baseline: all, so many, or 0 (default: 40)"
    )
    parser.add_argument("--trees", type=int, default=100, help="trees of the forest (default: 100; 0: none)")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    asked = parser.parse_args()
    tiers = asked.tiers.split(",") if asked.tiers else None
    case = synthetic() if asked.bundle is None else from_bundle(asked.bundle, tiers)
    scales = tuple(int(n) for n in asked.scales.split(",")) if asked.scales else case.scales
    rules = rules_named(asked.rules)
    # What was published was published under the reference rules.
    published = _published(asked.bundle) if rules.level_barrier else {}
    print(f"{case.workflow.name}, {rules.name} rules; held-out concordance, ties one half")
    print(f"{'regions':>22}" + "".join(f"{size:6d}" for size in SHOWN))
    fitted = {nodes: at_scale(case, rules, nodes, asked.trees, published.get(nodes, {})) for nodes in scales}
    report: dict[str, Any] = {
        "claim": "few regions order unseen configurations about as well as a forest",
        "workflow": case.workflow.name,
        "rules": rules.name,
        "scales": fitted,
        "fit_s": sum(scale["fit_s"] for scale in fitted.values()),
    }
    if asked.refit != "0":
        report["refit"] = refit_way(case, rules, scales, None if asked.refit == "all" else int(asked.refit))
        ratio = report["refit"]["all_s"] / report["fit_s"]
        report["ratio"] = ratio
        made = "{made} of {all} fits made".format(**report["refit"])
        print(
            f"all scales: {report['fit_s']:.2f} s with roles and rules; "
            f"refitting for each price {report['refit']['all_s']:.1f} s ({made}): {ratio:.0f} times as long"
        )
    write_report(report, asked.json, f"regions-{case.workflow.name}-{rules.name}")


def at_scale(
    case: Case, rules: MakespanRules, nodes: int, trees: int, published: dict[str, Any]
) -> dict[str, Any]:
    """Return curves, knee and forest at one node count, and print them."""
    model, evaluated = _evaluated(case, rules, nodes)
    fit_regions(model, evaluated.layouts, evaluated)  # imports, and tables that the model keeps
    started = process_time()
    found = fit_regions(model, evaluated.layouts, evaluated)
    fit_s = process_time() - started
    single = fit_regions(model, evaluated.layouts, evaluated, options=RegionOptions(rules_per_region=1))
    known = ~np.isnan(evaluated.makespan_s)
    forest = forest_concordance(model, evaluated.layouts[known], evaluated.makespan_s[known], trees)
    print(f"{nodes} nodes, {found.measured:,} of {len(evaluated):,} configurations measured, {fit_s:.2f} s")
    for name, regions in (("two rules a region", found), ("one rule a region", single)):
        at = {size: c for size, c, _ in regions.curve}
        print(f"{name:>22}" + "".join(f"{at[size]:6.3f}" if size in at else " " * 6 for size in SHOWN))
    words = [f"knee: {found.count} regions, {found.concordance_held_out or float('nan'):.3f}"]
    words += [f"moves and levels asked for: {'yes' if found.structure else 'no'}"]
    words += [f"forest {forest:.3f}"] if forest is not None else []
    words += (
        ["published {regions} ({at_scale} here), {concordance:.3f}".format(**published)] if published else []
    )
    print(f"{'':>22}  {'; '.join(words)}", flush=True)
    return {
        "configurations": len(evaluated),
        "measured": found.measured,
        "regions": found.count,
        "concordance": found.concordance_held_out,
        "mae_s": found.mae_held_out_s,
        "separation": found.separation,
        "structure": found.structure,
        "spread_inside": _spread_inside(found),
        "curve": found.curve,
        "curve_of_single_rules": single.curve,
        "forest": forest,
        "published": published,
        "fit_s": fit_s,
    }


def forest_concordance(
    model: MakespanModel, layouts: Layouts, makespan_s: FloatArray, trees: int
) -> float | None:
    """Return the concordance of a random forest on the folds that the curve comes from."""
    if not trees:
        return None
    from sklearn.ensemble import RandomForestRegressor

    names = model.workflow.stage_names, model.catalog.names
    features = truths(tiers_of_stages(*names), layouts, *names).astype(np.float32)
    folds = RegionOptions().cross_validation(len(layouts), 0).fresh()
    if len(layouts) > FOREST_FOLDS_OF:
        folds = CrossValidation(folds.folds, 1, folds.seed)
    found = []
    for fold in folds.held_out(layout_codes(layouts, len(names[1]))):
        predicted = np.empty(len(fold))
        for k in range(fold.max() + 1):
            forest = RandomForestRegressor(trees, random_state=0, n_jobs=1)
            forest.fit(features[fold != k], makespan_s[fold != k])
            predicted[fold == k] = forest.predict(features[fold == k])
        found.append(concordance(predicted, makespan_s))
    return float(np.mean(found))


def refit_way(case: Case, rules: MakespanRules, scales: tuple[int, ...], most: int | None) -> dict[str, Any]:
    """Return the seconds of choosing a pruned tree by fitting it again for every price in every fold."""
    from sklearn.tree import DecisionTreeRegressor

    features, makespan_s, group = _pooled(case, rules, scales)
    few = len(makespan_s) < 1000
    folds = CrossValidation(5, 5, 0) if few else CrossValidation(10, 2, 0)
    shape = {"criterion": "absolute_error", "min_samples_leaf": 3 if few else 30, "max_depth": 12}
    started = process_time()
    path = DecisionTreeRegressor(**shape, random_state=0).cost_complexity_pruning_path(features, makespan_s)
    path_s = process_time() - started
    prices = np.unique(np.maximum(path.ccp_alphas, 0.0))
    fits = [
        (fold, k, price) for fold in folds.held_out(group) for k in range(folds.folds) for price in prices
    ]
    step = 1 if most is None else max(1, len(fits) // most)
    started = process_time()
    for fold, k, price in fits[::step]:
        tree = DecisionTreeRegressor(**shape, random_state=0, ccp_alpha=price)
        tree.fit(features[fold != k], makespan_s[fold != k]).predict(features[fold == k])
    fits_s = process_time() - started
    made = len(fits[::step])
    return {"made": made, "all": len(fits), "made_s": fits_s, "all_s": path_s + fits_s * len(fits) / made}


def _pooled(
    case: Case, rules: MakespanRules, scales: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """Return tiers and node count of every measured configuration, its makespan, and its layout's number."""
    parts = []
    for nodes in scales:
        model, evaluated = _evaluated(case, rules, nodes)
        known = ~np.isnan(evaluated.makespan_s)
        layouts = evaluated.layouts[known]
        names = model.workflow.stage_names, model.catalog.names
        tiers = truths(tiers_of_stages(*names), layouts, *names)
        scale = np.array(scales) == np.full((len(layouts), 1), nodes)
        codes = layout_codes(layouts, len(names[1]))
        parts.append((np.hstack([tiers, scale]).astype(np.float64), evaluated.makespan_s[known], codes))
    features, makespans, groups = zip(*parts, strict=True)
    return np.concatenate(features), np.concatenate(makespans), np.concatenate(groups)


def _evaluated(case: Case, rules: MakespanRules, nodes: int) -> tuple[MakespanModel, EvaluatedConfigurations]:
    times = stage_times(case.table, case.workflow, case.catalog, nodes, rules)
    model = MakespanModel(case.workflow, case.catalog, times, rules)
    return model, evaluate_space(model)


def _spread_inside(found: RegionSet) -> float:
    """Return the median, over regions, of the spread between their quartiles as a share of their median."""
    return float(np.median([(r.q75_s - r.q25_s) / r.median_s for r in found.regions if r.median_s > 0]))


def _published(bundle: Path | None) -> dict[int, dict[str, Any]]:
    """Return per node count what was published of a bundle's regions; nothing where it does not say."""
    if bundle is None or not (bundle / "expected_summary.json").is_file():
        return {}
    summary = json.loads((bundle / "expected_summary.json").read_text(encoding="utf-8"))
    if summary.get("regions", {}).get("n_regions") is None:
        return {}
    return {
        int(nodes): {
            "regions": summary["regions"]["n_regions"],
            "at_scale": scale["pc"]["n_regions_at_scale"],
            "concordance": scale["pc"]["QoSFlow_oof_grouped"]["pc_leakfree"],
        }
        for nodes, scale in summary["scales"].items()
    }


if __name__ == "__main__":
    main()
