"""Why the best tier of a stage differs between two sides, in words."""

from __future__ import annotations

from qosflow_airflow.core.comparison import BestOfSide, Comparison, Seconds, StageComparison, StageSide
from qosflow_airflow.core.describe import TOLERANCE

DOING = {"read": "reading", "compute": "computing", "write": "writing", "movement": "moving data"}


def difference_in_words(found: StageComparison, comparison: Comparison, left: str, right: str) -> str:
    """Say why the best tier of a stage differs, nothing where it does not.

    ``left`` and ``right`` say where, as in ``on 2 nodes``.
    """
    here, there = found.left, found.right
    if found.state != "changed" or here is None or there is None:
        return ""
    moves = f"{found.stage} moves from {here.tier} to {there.tier}"
    for side, tier, where in ((here, there.tier, left), (there, here.tier, right)):
        if side.other_s is None:
            return f"{moves}: there is no {tier} {where}."
        if None in side.other_s.values():
            return f"{moves}: what it takes on {tier} is not known {where}."
    if _is_small(here, comparison.left) and _is_small(there, comparison.right):
        return f"{moves}, but either will do: the makespan changes by at most {TOLERANCE:.0%}."
    if found.cause is None:
        return f"{moves}, because of what other stages do: it takes as long as before."
    before = _more(here.other_s, here.parts_s, found.cause)
    after = _more(there.parts_s, there.other_s, found.cause)
    return (
        f"{moves}, mostly because of {DOING[found.cause]}: that takes {before} on {there.tier} than on "
        f"{here.tier} {left}, and {after} {right}."
    )


def _is_small(side: StageSide, whole: BestOfSide) -> bool:
    if side.swap_s is None or whole.makespan_s is None:
        return False
    return abs(side.swap_s) <= TOLERANCE * whole.makespan_s


def _more(seconds: Seconds | None, than_s: Seconds | None, part: str) -> str:
    difference = ((seconds or {}).get(part) or 0.0) - ((than_s or {}).get(part) or 0.0)
    return f"{abs(difference):.3g} s {'more' if difference >= 0 else 'less'}"
