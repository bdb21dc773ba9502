"""The number of tasks of one stage of a run: chosen, said in words, and chosen again from what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from qosflow_airflow.learn.chunk_choice import ChunkGoal, next_chunks
from qosflow_airflow.learn.parallelism import StageParallelism


class StageChunks(NamedTuple):
    """In how many tasks a stage is done, how many its workflow has, and why; ``why`` may be ``cold``.

    ``limit`` is the most that were allowed, ``goal`` what was asked for, and ``parallelism`` what was fitted
    to the stage's runs, as plain JSON; ``None`` where nothing was.
    """

    chunks: int
    was: int
    why: str
    words: str
    limit: int
    goal: dict[str, Any]
    seconds: float | None = None
    log_sd: float | None = None
    parallelism: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return self._asdict()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageChunks:
        """Build it from what :meth:`to_json` returned."""
        return cls(**value)

    def again(self) -> StageChunks:
        """Return the choice made once more from what it was made of."""
        if self.parallelism is None:
            return self
        found = StageParallelism.from_json(self.parallelism)
        return _chosen(found, self.was, self.limit, ChunkGoal(**self.goal))

    def sentence(self, stage: str) -> str:
        """Say it of a stage."""
        if self.parallelism is None or self.seconds is None or self.why == "infeasible":
            return f"{stage} in {self.chunks} tasks, as its workflow says: {self.words}."
        law, runs = self.parallelism["law"], self.parallelism["runs"]
        changed = "" if self.chunks == self.was else f" instead of {self.was}"
        reason = f"to learn from, as {self.words}" if self.why == "probe" else self.words
        return (
            f"{stage} in {self.chunks} tasks{changed}: {reason}; {self.seconds:.1f} s by {runs} "
            f"run{'s' if runs > 1 else ''}, {law['parallel']:.0%} of {law['single_s']:.1f} s divided."
        )


def choose_for_stage(
    found: StageParallelism | None, was: int, limit: int, goal: ChunkGoal, *, where: str, no_slower: bool
) -> StageChunks:
    """Return the choice for a stage that has ``was`` tasks in its workflow and may have ``limit``.

    With ``no_slower`` the stage may not take longer than it does in ``was`` tasks. ``where`` says, in words,
    on what its runs ran.
    """
    if found is None:
        words = f"no finished run {where} tells yet how it divides"
        return StageChunks(was, was, "cold", words, limit, asdict(goal))
    if no_slower:
        own_s = float(found.estimate(np.array([float(was)])).seconds[0])
        goal = replace(goal, deadline_s=own_s * (1 + 1e-9))
    return _chosen(found, was, limit, goal)


def _chosen(found: StageParallelism, was: int, limit: int, goal: ChunkGoal) -> StageChunks:
    chosen = next_chunks(found, limit, goal)
    return StageChunks(
        chosen.chunks or was,
        was,
        chosen.why,
        chosen.words,
        limit,
        asdict(goal),
        chosen.seconds,
        chosen.log_sd,
        found.to_json(),
    )
