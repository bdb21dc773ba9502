"""What may be behind a drift, as far as runs tell: other data, another platform, or another code.

Bytes tell of the data: stages that move as many as before do the same work on them. Images and versions of
the Dag tell of the code: where one took the place of another when the drift began, it is the code. Tiers tell
of the platform: where only some of those in use have become slower or faster, these have changed. What is
left is the platform as a whole, or a program that neither an image nor the Dag holds; runs do not tell these
two apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from qosflow_airflow.learn.calibration import Residual
from qosflow_airflow.learn.finished_run import FinishedRun

OTHER_DATA = math.log(1.2)
"""A run that moves 20 % more or less than before has other data."""
MAX_VERSION_CHARS = 60


def likely_cause(
    residuals: Sequence[Sequence[Residual]], runs: Sequence[FinishedRun], since: int, shift: float
) -> str:
    """Say what a drift that began with run ``since`` may come from; empty where nothing tells.

    ``residuals`` are those of the ``runs``, oldest first; ``shift`` is the drift's.
    """
    moved_bytes = [run.moved_bytes for run in runs]
    before, after = ([one for one in part if one] for part in (moved_bytes[:since], moved_bytes[since:]))
    same_data = bool(before and after)
    if same_data:
        ratio = median(after) / median(before)
        if abs(math.log(ratio)) > OTHER_DATA:
            return f"the data have changed: runs move {ratio:.2g} times as many bytes"
    images, versions = [run.images for run in runs], [run.dag_versions for run in runs]
    for name, found in (("image", images), ("version of the Dag", versions)):
        if changed := _change(found, since):
            return f"the code has changed: {name} {changed[1]}, which was {changed[0]}"
    tiers = _shifts(residuals, since)
    moved = sorted(tier for tier, found in tiers.items() if abs(found - shift) < abs(shift) / 2)
    still = [tier for tier, found in tiers.items() if abs(found) < abs(shift) / 4]
    if moved and still and len(moved) + len(still) == len(tiers):
        return f"the platform has changed: stages on {', '.join(moved)} have, those on other tiers have not"
    return _left(same_data, same_image=_is_same(images), same_dag=_is_same(versions))


def _left(same_data: bool, same_image: bool, same_dag: bool) -> str:
    """Say what is left when nothing is seen to have changed."""
    same = ["runs move as many bytes as before"] * same_data
    if same_image:
        same.append("from the same image")
        left = (
            "the platform has changed as a whole" if same_data else "the data have changed, or the platform"
        )
    elif same_data:
        same += ["by the same version of the Dag"] * same_dag
        left = "the code has changed, or the platform as a whole"
        if same_dag:
            left = "a program beside the Dag has changed, or the platform as a whole"
    else:
        return ""
    return f"{', '.join(same)}: {left}"


def _change(found: Sequence[tuple[str, ...]], since: int) -> tuple[str, str] | None:
    """Return one code and the other that took its place when the drift began, give or take a run."""
    for at in (since, since - 1, since + 1):
        before, after = set(found[:at]), set(found[at:])
        if len(before) == len(after) == 1 and before != after and all((*before, *after)):
            first, second = (", ".join(one.pop())[:MAX_VERSION_CHARS] for one in (before, after))
            return first, second
    return None


def _is_same(found: Sequence[tuple[str, ...]]) -> bool:
    return len(set(found)) == 1 and bool(found[0])


def _shifts(residuals: Sequence[Sequence[Residual]], since: int) -> Mapping[str, float]:
    """Return by how much stages on each tier take longer than before (log), where both are known."""
    parts: list[dict[tuple[str, str], list[float]]] = []
    for part in (residuals[:since], residuals[since:]):
        found: dict[tuple[str, str], list[float]] = {}
        for one in (one for run in part for one in run):
            found.setdefault((one.stage, one.tier), []).append(one.log_ratio)
        parts.append(found)
    before, after = parts
    by_tier: dict[str, list[float]] = {}
    for key in before.keys() & after.keys():
        by_tier.setdefault(key[1], []).append(median(after[key]) - median(before[key]))
    return {tier: median(found) for tier, found in by_tier.items()}
