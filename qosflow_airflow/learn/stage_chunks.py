"""The number of tasks of one stage of a run: chosen, said in words, and chosen again from what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from qosflow_airflow.learn.chunk_choice import ChunkGoal, better_than_own, choose_chunks, next_chunks
from qosflow_airflow.learn.divided_stage import DividedStage
from qosflow_airflow.learn.parallelism import StageParallelism

COLD_GAIN = 0.1
"""What the I/O model says of other numbers is not that sure: one must promise to be better by this share."""


class StageChunks(NamedTuple):
    """In how many tasks a stage is done, how many its workflow has, and why; ``why`` may be ``cold``.

    ``limit`` is the most that were allowed, ``goal`` what was asked for, and ``parallelism`` what was fitted
    to the stage's runs, as plain JSON; ``None`` where nothing was. ``seconds`` is the estimate by which it
    was chosen, with waiting and starting, and ``own_s`` that of the workflow's number. ``by`` is what tells
    them, ``None`` where nothing does. ``foretold`` says that the answer's times are those in this number.
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
    own_s: float | None = None
    by: Literal["runs", "model"] | None = None
    foretold: bool = False

    @property
    def changed(self) -> bool:
        """Whether it is another number than the workflow's."""
        return self.chunks != self.was

    @property
    def tried(self) -> bool:
        """Whether it is the workflow's number, or one in which the stage has run."""
        seen = {} if self.parallelism is None else self.parallelism["seen"]
        return not self.changed or str(self.chunks) in seen

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return self._asdict()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageChunks:
        """Build it from what :meth:`to_json` returned, or what versions before this one kept."""
        return cls(**value)

    def again(self) -> StageChunks:
        """Return the choice of an answer that foretells the workflow's own numbers, made once more."""
        if self.parallelism is None:
            return self
        found = StageParallelism.from_json(self.parallelism)
        again = _chosen(found, self.was, self.limit, ChunkGoal(**self.goal), to_learn=True)
        return again._replace(own_s=None, by=None, foretold=False)

    def sentence(self, stage: str) -> str:
        """Say it of a stage."""
        if self.seconds is None or self.why == "infeasible":
            return f"{stage} in {self.chunks} tasks, as its workflow says: {self.words}."
        number = f"{stage} in {self.chunks} tasks{f' instead of {self.was}' if self.changed else ''}"
        if self.by == "model":
            own = f", {self.own_s:.1f} s in {self.was}" if self.changed and self.own_s is not None else ""
            return f"{number}: {self.words}; {self.seconds:.1f} s by the I/O model{own}."
        law, runs = self.parallelism["law"], self.parallelism["runs"]  # type: ignore[index]
        reason = f"to learn from, as {self.words}" if self.why == "probe" else self.words
        return (
            f"{number}: {reason}; {self.seconds:.1f} s by {runs} "
            f"run{'s' if runs > 1 else ''}, {law['parallel']:.0%} of {law['single_s']:.1f} s divided."
        )


def choose_for_stage(
    found: StageParallelism, was: int, limit: int, goal: ChunkGoal, *, no_slower: bool, to_learn: bool = True
) -> StageChunks:
    """Return the choice by runs for a stage that has ``was`` tasks in its workflow and may have ``limit``.

    With ``no_slower`` the stage may not take longer than it does in ``was`` tasks. Without ``to_learn`` no
    number is only tried.
    """
    if no_slower:
        own_s = float(found.estimate(np.array([float(was)])).seconds[0])
        goal = replace(goal, deadline_s=own_s * (1 + 1e-9))
    return _chosen(found, was, limit, goal, to_learn=to_learn)


def choose_by_model(
    stage: DividedStage, limit: int, goal: ChunkGoal, *, where: str, no_slower: bool
) -> StageChunks:
    """Return the choice of the I/O model, for a stage that has never run ``where``.

    The workflow's number stays where none up to ``limit`` is better by :data:`COLD_GAIN`, and where the model
    cannot tell.
    """
    own, cold = stage.own, f"no finished run {where} tells yet how it divides"
    if stage.unknown:
        words = f"{cold}, and the I/O model cannot tell, because {stage.unknown}"
        return StageChunks(own, own, "cold", words, limit, asdict(goal), foretold=True)
    own_s = float(stage.estimate(np.array([float(own)])).seconds[0])
    if no_slower:
        goal = replace(goal, deadline_s=own_s * (1 + 1e-9))
    chosen = better_than_own(stage, own, limit, goal, COLD_GAIN)
    return StageChunks(
        chosen.chunks or own,
        own,
        "cold",
        f"{chosen.words}; {cold}",
        limit,
        asdict(goal),
        chosen.seconds,
        chosen.log_sd,
        own_s=own_s,
        by="model",
        foretold=True,
    )


def _chosen(found: StageParallelism, was: int, limit: int, goal: ChunkGoal, *, to_learn: bool) -> StageChunks:
    chosen = (next_chunks if to_learn else choose_chunks)(found, limit, goal)
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
        float(found.estimate(np.array([float(was)])).seconds[0]),
        "runs",
        foretold=True,
    )
