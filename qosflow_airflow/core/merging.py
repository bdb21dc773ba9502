"""Putting neighbouring rules together: fewer regions, told apart more clearly, each still few rules.

Rules stand in the order of their mean places, and two neighbours become one group where that adds the least
to the squared spread of places inside groups (Ward, 1963), until the groups are few enough.
"""

from __future__ import annotations

from collections.abc import Sequence

RULES_PER_REGION = 2
"""Rules that a region holds on average: a tree of twice as many leaves as regions is put together."""
MOST_RULES = 3
"""Rules that a region holds at most: *either … or … or …* is still read."""


def merged(count: Sequence[float], mean: Sequence[float], regions: int) -> list[int] | None:
    """Return the group (0 … ``regions`` - 1) of each of several rules, which stand in order of ``mean``.

    ``count`` are their sizes. ``None`` where groups of at most ``MOST_RULES`` cannot be so few.

    >>> merged([5, 5, 5, 5], [1.0, 1.5, 7.0, 9.0], 2)
    [0, 0, 1, 1]
    """
    size, centre, rules = list(count), list(mean), [1] * len(count)
    added = [_added(size, centre, rules, k) for k in range(len(size) - 1)]
    while len(size) > regions:
        least = min(added)
        if least == float("inf"):
            return None
        k = added.index(least)
        total = size[k] + size[k + 1]
        centre[k] = (size[k] * centre[k] + size[k + 1] * centre[k + 1]) / total
        size[k] = total
        rules[k] += rules[k + 1]
        del size[k + 1], centre[k + 1], rules[k + 1], added[k]
        for near in (k - 1, k):
            if 0 <= near < len(added):
                added[near] = _added(size, centre, rules, near)
    return [group for group, held in enumerate(rules) for _ in range(held)]


def _added(size: list[float], centre: list[float], rules: list[int], k: int) -> float:
    """Return what putting the k-th group and its right neighbour together adds to the spread inside."""
    if rules[k] + rules[k + 1] > MOST_RULES:
        return float("inf")
    difference = centre[k + 1] - centre[k]
    return size[k] * size[k + 1] / (size[k] + size[k + 1]) * difference * difference
