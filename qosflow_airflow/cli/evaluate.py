"""``qosflow evaluate``: how well policies and regions order the configurations of a model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qosflow_airflow.cli.ablation import add_ablation, is_ablation, print_ablation
from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.cli.sources import add_model, open_lesson, open_model, open_report_card
from qosflow_airflow.cli.text import as_json, card_line, figure, progress, table

HEADING = ("nodes", "ordering", "concordance", "published", "first choice", "regret", "ratio", "tied")
NOTE = """\
concordance: share of pairs in the right order; a tie counts one half, regions are held out of their fit.
published: for comparison only; ties in the order of the truth, regions judged on what they were fitted to.
regret: the first choice against the best, a mean where several tie; that of regions is held out too."""


def add_evaluate(commands: Any) -> None:
    """Add ``evaluate``."""
    evaluate = commands.add_parser(
        "evaluate", help="how well policies and regions order configurations", description=_evaluate.__doc__
    )
    add_ablation(evaluate, add_model(evaluate))
    evaluate.add_argument("--plot", type=Path, metavar="FILE", help="draw it too, as .svg or .png")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    """Print, per scale, how well fixed policies and the fitted regions order configurations.

    A concordance is the share of pairs put in the right order, ties counting one half; `published` is the
    artifact's figure, which breaks ties by the truth. Regions are measured on configurations held out of
    their fit. The regret is what the configuration that is ranked first takes beyond the best there is.

    With `--ablation`: how far each layer of a prediction is off in runs that finished later, instead.
    """
    if is_ablation(options):
        return print_ablation(options)
    from qosflow_airflow.core.evaluation import evaluate_model
    from qosflow_airflow.figures.files import check_drawable, save

    if options.plot is not None:
        check_drawable(options.plot)
    found = {
        **evaluate_model(open_model(options)),
        "report_card": open_report_card(options),
        "calibration": open_lesson(options),
    }
    print(as_json(found) if options.format == "json" else evaluation_text(found))
    if options.plot is not None:
        from qosflow_airflow.figures.evaluation import draw_evaluation

        save(draw_evaluation(found), options.plot)
        progress(f"wrote {options.plot}")
    return OK


def evaluation_text(found: Mapping[str, Any]) -> str:
    """Return what :func:`~qosflow_airflow.core.evaluation.evaluate_model` found: a table, then its notes."""
    scales = found["scales"]
    rows = [row for nodes, scale in scales.items() for row in _rows(nodes, scale)]
    lines = [line for nodes, scale in scales.items() for line in _about(nodes, scale)]
    card = found.get("report_card")
    lines += [f"Held against runs: {card_line(card)}."] if card else []
    if lesson := found.get("calibration"):
        lines += [*lesson["words"], f"Drift: {lesson['drift']['state']} ({lesson['drift']['words']})."]
    return "\n".join([table([HEADING, *rows]), "", *lines, "", NOTE])


def _rows(nodes: str, scale: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    from qosflow_airflow.core.evaluation import chosen_first

    orderings = dict(scale["policies"])
    if scale["regions"] is not None:
        regions = scale["regions"]
        orderings["regions"] = {**regions, "concordance": regions["concordance_held_out"]}
    for name, figures in orderings.items():
        first = chosen_first(figures)
        yield (
            nodes,
            name,
            figure(figures["concordance"]),
            figure(figures["concordance_published"]),
            figure(first.get("makespan_s"), " s"),
            figure(first.get("regret_s"), " s"),
            figure(first.get("ratio")),
            str(first.get("tied", "")),
        )


def _about(nodes: str, scale: Mapping[str, Any]) -> Iterator[str]:
    """Yield what there is at a scale, and what is known of its regions."""
    at_scale = f"{nodes} node{'' if nodes == '1' else 's'}"
    there = f"{scale['configurations']:,} configurations"
    if scale["makespan_s"] is None:
        yield f"{at_scale}: none of {there} is measured, so that there is nothing to order."
        return
    left_out = scale["configurations"] - scale["measured"]
    best, median, worst = (f"{scale['makespan_s'][name]:.1f}" for name in ("best", "median", "worst"))
    unmeasured = f" ({left_out:,} without a makespan are left out)" if left_out else ""
    yield f"{at_scale}: {there}{unmeasured}: best {best} s, median {median} s, worst {worst} s."
    regions = scale["regions"]
    if regions is None:
        yield f"{at_scale}: the model has no regions."
        return
    error = figure(regions["mae_held_out_s"], " s") or "unknown"
    yield f"{at_scale}: {regions['count']} regions{_curve(regions)}, held-out error {error}."
    if regions["first_choice_held_out"] is None:
        yield f"{at_scale}: no regions were held out: their first choice is that of the fitted ones."
    of_all, of_best = (_bottleneck(regions["bottleneck"][name]) for name in ("space", "best_region"))
    yield f"{at_scale}: configurations wait most for {of_all}, those of the fastest region for {of_best}."


def _curve(regions: Mapping[str, Any]) -> str:
    """Say how well other numbers of regions order: about half as many, twice as many, and the most."""
    count, points = regions["count"], regions["curve"]
    if not points:
        return ""
    wanted = (count / 2, count, count * 2, points[-1][0])
    shown = {min(points, key=lambda point: abs(point[0] - size))[0]: None for size in wanted}
    reached = {size: concordance for size, concordance, _ in points}
    words = ", ".join(f"{size} reach {reached[size]:.3f}" for size in shown)
    return f" ({'the knee of their curve: ' if regions['knee'] else ''}{words})"


def _bottleneck(found: Mapping[str, Any]) -> str:
    return f"{found['part'].replace('_io', ' I/O')} ({found['share']:.0%})"
