"""What the page that compares two models shows, ready to be printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from qosflow_airflow.core.comparison import STAGE_PARTS, BestOfSide, Comparison, Seconds, StageComparison
from qosflow_airflow.core.comparison_words import difference_in_words
from qosflow_airflow.core.schedule import SPLIT
from qosflow_airflow.store.base import ModelVersion
from qosflow_airflow.web.api_types import Compared
from qosflow_airflow.web.charts import part_in_words
from qosflow_airflow.web.insights import NOTHING, seconds
from qosflow_airflow.web.known_models import KnownModel

Rows = tuple[tuple[str, ...], ...]
STATES = {
    "same": "same tier",
    "changed": "another tier",
    "only_left": "only left",
    "only_right": "only right",
    "unknown": "not known",
}


@dataclass(frozen=True)
class Choice:
    """An option of a form."""

    value: str
    words: str
    is_chosen: bool


@dataclass(frozen=True)
class DifferenceView:
    """A stage whose best tier differs: why, and its seconds on both tiers on either side."""

    stage: str
    words: str
    head: tuple[str, ...]
    rows: Rows


@dataclass(frozen=True)
class ComparisonView:
    """Two answers side by side. ``choices`` are the options of the form, by the name of the field."""

    workflow: str
    left: str
    right: str
    left_id: str
    right_id: str
    verdict: str
    crossed: tuple[str, ...]
    totals: Rows
    differences: tuple[DifferenceView, ...]
    stages: Rows
    choices: dict[str, tuple[Choice, ...]]
    kept: tuple[tuple[str, str], ...]
    query: str


def comparison_view(
    left: KnownModel,
    right: KnownModel,
    found: Comparison,
    asked: Compared,
    versions: Sequence[ModelVersion],
) -> ComparisonView:
    """Return what is shown of a comparison."""
    where = places(left.version, right.version, found)
    names = (where[0].removeprefix("in ").capitalize(), where[1].removeprefix("in ").capitalize())
    kept = tuple(_kept(asked))
    sides = (("left", left.version.model_id), ("right", right.version.model_id))
    counts = (("nodes", asked.nodes), ("right_nodes", asked.right_nodes))
    named = [(name, str(nodes)) for name, nodes in counts if nodes is not None]
    return ComparisonView(
        workflow=right.version.workflow,
        left=names[0],
        right=names[1],
        left_id=left.version.model_id,
        right_id=right.version.model_id,
        verdict=_verdict(found, where),
        crossed=tuple(_crossed(found, where)),
        totals=tuple(_totals(found)),
        differences=tuple(_difference(one, found, where) for one in found.stages if one.state == "changed"),
        stages=tuple(_stage(one) for one in found.stages),
        choices={
            "left": _versions(versions, left.version),
            "nodes": _counts(left, asked.nodes, "any number of nodes"),
            "right": _versions(versions, right.version),
            "right_nodes": _counts(right, asked.right_nodes, "nodes as on the left"),
        },
        kept=kept,
        query=urlencode([*sides, *named, *kept]),
    )


def places(left: ModelVersion, right: ModelVersion, found: Comparison) -> tuple[str, str]:
    """Say where either side is, by what tells them apart, as in ``in version 3`` and ``in version 4``."""
    versions = [f"version {one.version}" for one in (left, right)]
    counts = [_on_nodes(side.nodes) for side in (found.left, found.right)]
    if left.model_id == right.model_id:
        return counts[0] or "on the left", counts[1] or "on the right"
    if found.left.nodes == found.right.nodes:
        return f"in {versions[0]}", f"in {versions[1]}"
    said = [" ".join(filter(None, pair)) for pair in zip(versions, counts, strict=True)]
    return f"in {said[0]}", f"in {said[1]}"


def _on_nodes(nodes: int | None) -> str:
    return "" if nodes is None else f"on {nodes} node{'' if nodes == 1 else 's'}"


def _verdict(found: Comparison, where: tuple[str, str]) -> str:
    for side, place in zip((found.left, found.right), where, strict=True):
        if side.makespan_s is None:
            return f"Nothing that is known meets the request {place}, so that there is nothing to compare."
    states = [one.state for one in found.stages]
    both = sum(state in ("same", "changed") for state in states)
    changed = states.count("changed")
    said = [f"{changed or 'None'} of the {both} stages in both {'has' if changed < 2 else 'have'} "]
    said[0] += "another best tier."
    if both < len(states):
        said.append(f"Of {len(states) - both} stages only one side knows.")
    return " ".join(said)


def _crossed(found: Comparison, where: tuple[str, str]) -> Iterator[str]:
    """Yield what either side says of the tiers that the other would have answered with, if they differ."""
    if all(one.state == "same" for one in found.stages):
        return
    sides = ((found.left, where[0], where[1]), (found.right, where[1], where[0]))
    for side, here, there in sides:
        if side.makespan_s is None or side.other_makespan_s is None:
            continue
        more_s = side.other_makespan_s - side.makespan_s
        yield (
            f"{here[0].upper()}{here[1:]}, the tiers chosen {there} take {seconds(side.other_makespan_s)}, "
            + (f"{seconds(more_s)} more than its own." if more_s > 0 else "no more than its own.")
        )


def _totals(found: Comparison) -> Iterator[tuple[str, ...]]:
    sides = (found.left, found.right)
    yield ("Nodes", *(NOTHING if side.nodes is None else str(side.nodes) for side in sides), "")
    yield ("Makespan", *(seconds(side.makespan_s) for side in sides), _change(*_makespans(sides)))
    for part in SPLIT:
        spent = [None if side.split_s is None else side.split_s[part] for side in sides]
        yield (f"of it {part_in_words(part)}", *map(seconds, spent), _change(*spent))


def _makespans(sides: tuple[BestOfSide, BestOfSide]) -> tuple[float | None, float | None]:
    return sides[0].makespan_s, sides[1].makespan_s


def _change(before: float | None, after: float | None) -> str:
    return NOTHING if before is None or after is None else f"{after - before:+,.2f} s"


def _difference(found: StageComparison, comparison: Comparison, where: tuple[str, str]) -> DifferenceView:
    left, right = found.left, found.right
    assert left is not None
    assert right is not None
    columns = (
        (f"{left.tier}, {where[0]}", left.parts_s),
        (f"{right.tier}, {where[0]}", left.other_s),
        (f"{left.tier}, {where[1]}", right.other_s),
        (f"{right.tier}, {where[1]}", right.parts_s),
    )
    rows = [(part, *(seconds((parts or {}).get(part)) for _, parts in columns)) for part in STAGE_PARTS]
    rows.append(("makespan, if it alone moves", NOTHING, _swap(left.swap_s), _swap(right.swap_s), NOTHING))
    words = difference_in_words(found, comparison, *where)
    return DifferenceView(found.stage, words, ("Part", *(head for head, _ in columns)), tuple(rows))


def _swap(swap_s: float | None) -> str:
    return NOTHING if swap_s is None else f"{swap_s:+,.2f} s"


def _stage(found: StageComparison) -> tuple[str, ...]:
    sides = (found.left, found.right)
    tiers = [NOTHING if side is None else side.tier for side in sides]
    taken = [NOTHING if side is None else seconds(_sum(side.parts_s)) for side in sides]
    return found.stage, tiers[0], taken[0], tiers[1], taken[1], STATES[found.state]


def _sum(parts: Seconds) -> float | None:
    known = [one for one in parts.values() if one is not None]
    return sum(known) if len(known) == len(parts) else None


def _versions(versions: Sequence[ModelVersion], chosen: ModelVersion) -> tuple[Choice, ...]:
    listed = {one.model_id: one for one in (*versions, chosen)}
    return tuple(
        Choice(name, f"version {one.version}", name == chosen.model_id) for name, one in listed.items()
    )


def _counts(known: KnownModel, chosen: int | None, free: str) -> tuple[Choice, ...]:
    counts = [Choice(str(nodes), _on_nodes(nodes), nodes == chosen) for nodes in known.model.nodes]
    return (Choice("", free, chosen is None), *counts)


def _kept(asked: Compared) -> Iterator[tuple[str, str]]:
    """Yield the constraints as the fields that ask them again."""
    free = Compared(right=asked.right)
    for name in type(asked).model_fields:
        if name in ("left", "right", "nodes", "right_nodes"):
            continue
        value = getattr(asked, name)
        if value != getattr(free, name):
            for one in value if isinstance(value, list) else [value]:
                yield name, f"{one:.15g}" if isinstance(one, float) else str(one)
