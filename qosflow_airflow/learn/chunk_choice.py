"""How many chunks a stage is run in: the best number by an objective, and now and then one that teaches.

Predicted times alone would lock themselves in: a stage that only ran in one chunk never shows what a second
one would save. So a stage is tried in a second number of chunks as soon as one is known, where the share that
can be divided is not known well, and where its newest runs all had the same number; never where no share at
all would make another number the best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.learn.parallelism import Estimate, StageParallelism

Objective = Literal["time", "node_hours", "cost", "knee", "published"]
"""What to make small.

``published`` is ARBO's ``T sqrt(s)``: with a node per chunk it is the geometric mean of time and node-hours.
``knee`` is the number from which less time costs more node-hours than it saves, in shares of either's range.
"""
Why = Literal["best", "probe", "infeasible"]
BoolArray = NDArray[np.bool_]

LEAST_GAIN = 0.01
"""Time falls with every chunk: of numbers slower than the fastest by less than this share, the smallest is
taken."""
UNSURE = 0.1
"""Standard deviation of p above which it is looked into."""
PROBE_LIMIT, FIRST_PROBE_LIMIT = 1.25, 2.0
"""What a number that only teaches may be worse by; more where nothing but one number was ever seen."""
PROBE_FACTOR = 4
"""What only teaches is at most so many times more, or fewer, than what was run."""
REVISIT_RUNS = 10
"""After so many runs in one number of chunks another one is tried."""
SAME = f"the last {REVISIT_RUNS} runs all had the same number"


class Timed(Protocol):
    """What tells how long a stage takes in so many chunks."""

    def estimate(self, chunks: FloatArray, data_scale: float = 1.0, load: float | None = None) -> Estimate:
        """Return seconds and their spread per number of chunks."""


@dataclass(frozen=True)
class ChunkGoal:
    """What is asked of a stage. ``chunks_per_node`` chunks share a node; prices are per hour and per chunk.

    ``deadline_s``, ``max_node_hours`` and ``max_cost`` are for the stage alone. With a ``confidence`` the
    deadline must be kept with at least that probability, else by the estimate itself.

    Raises
    ------
    RequestError
        When a number cannot be, or the objective is unknown.
    """

    objective: Objective = "time"
    deadline_s: float | None = None
    confidence: float | None = None
    max_node_hours: float | None = None
    max_cost: float | None = None
    chunks_per_node: int = 1
    node_price_per_hour: float = 0.0
    price_per_chunk: float = 0.0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise RequestError(
                f"unknown objective {self.objective!r}", cure=f"Use one of {', '.join(get_args(Objective))}."
            )
        for name in ("deadline_s", "max_node_hours", "max_cost"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise RequestError(f"{name} is {value}", cure="Give a number greater than 0.")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise RequestError(f"confidence is {self.confidence}", cure="Give a probability, as 0.95.")
        if self.chunks_per_node < 1 or min(self.node_price_per_hour, self.price_per_chunk) < 0:
            raise RequestError("a price is negative, or no chunk fits on a node", cure="Give other numbers.")


class Choice(NamedTuple):
    """A number of chunks, its estimate, and why; ``chunks`` is ``None`` where nothing meets the goal.

    ``binding`` names the constraints that no number of chunks meets, or not together.
    """

    chunks: int | None
    seconds: float
    log_sd: float
    why: Why
    words: str
    binding: tuple[str, ...] = ()


class _Table(NamedTuple):
    """Per number of chunks from 1 on: what it takes, what it scores, and whether it meets the goal."""

    chunks: FloatArray
    seconds: FloatArray
    log_sd: FloatArray
    score: FloatArray
    slack: dict[str, FloatArray]

    @property
    def feasible(self) -> BoolArray:
        """Whether each number meets every constraint."""
        met = [amount <= 0 for amount in self.slack.values()]
        return np.asarray(np.all(met, axis=0) if met else np.ones(len(self.chunks), dtype=np.bool_))


def choose_chunks(
    found: StageParallelism,
    most: int,
    goal: ChunkGoal = ChunkGoal(),
    *,
    data_scale: float = 1.0,
    load: float | None = None,
) -> Choice:
    """Return the best number of chunks from 1 to ``most``, or that there is none."""
    table = _table(found, most, goal, data_scale, load)
    if not table.feasible.any():
        return _infeasible(table)
    return _choice(table, _best(table, goal), "best", f"least {_said(goal)}")


def better_than_own(
    found: Timed, own: int, most: int, goal: ChunkGoal = ChunkGoal(), least_gain: float = LEAST_GAIN
) -> Choice:
    """Return the best number of chunks up to ``most``, or ``own`` where it is not better by ``least_gain``.

    ``own`` may be more than ``most``.
    """
    table = _table(found, max(own, most), goal, 1.0, None)
    worth = table.feasible & (table.chunks <= most)
    limit = table.score[own - 1] * (1 - least_gain)
    if not worth.any() or np.where(worth, table.score, np.inf).min() >= limit:
        return _choice(table, own - 1, "best", "no other number is better")
    return _choice(table, _best(table, goal, worth), "best", f"least {_said(goal)}")


def next_chunks(
    found: StageParallelism,
    most: int,
    goal: ChunkGoal = ChunkGoal(),
    *,
    data_scale: float = 1.0,
    load: float | None = None,
) -> Choice:
    """Return the number of chunks to run next: the best one, or another one that tells more.

    What is only tried meets the goal as well, and is at most four times as many or as few as ran before. It
    is at most a quarter worse by the objective, or twice where a single number of chunks was ever seen; after
    :data:`REVISIT_RUNS` runs in one number it is the best other one, however bad it is believed to be.
    """
    table = _table(found, most, goal, data_scale, load)
    if not table.feasible.any():
        return _infeasible(table)
    best = _best(table, goal)
    reason, limit = _doubt(found)
    if reason and _may_differ(found, most, goal, data_scale, load, best):
        others = (
            table.feasible
            & _near(found, table.chunks)
            & (table.chunks != (found.newest[-1] if found.newest else 0))
        )
        worth = others & (table.score <= limit * table.score[best])
        if not worth.any() and reason == SAME:
            # By what is known each of them is much worse; but what is known may be wrong.
            worth = others & (table.score <= np.where(others, table.score, np.inf).min())
        if worth.any():
            return _choice(table, _most_telling(found, table, worth, data_scale), "probe", reason)
    return _choice(table, best, "best", f"least {_said(goal)}")


def _may_differ(
    found: StageParallelism, most: int, goal: ChunkGoal, data_scale: float, load: float | None, best: int
) -> bool:
    """Return whether another share could make another number the best: if none could, none is to be tried.

    In a number that was run, the stage takes as long whatever its share is.
    """
    run = float(found.newest[-1]) if found.newest else 1.0
    serial = 1 - found.law.parallel + found.law.parallel / run
    for share in (0.0, 1.0):
        single_s = found.law.single_s * serial / (1 - share + share / run)
        law = replace(found.law, single_s=single_s, parallel=share)
        table = _table(replace(found, law=law, process=None), most, goal, data_scale, load)
        if table.feasible.any() and _best(table, goal) != best:
            return True
    return False


def _doubt(found: StageParallelism) -> tuple[str, float]:
    """Return why another number of chunks should be tried, empty where not, and what it may cost."""
    if len(found.seen) < 2:
        return "only one number of chunks was ever run", FIRST_PROBE_LIMIT
    unsure = math.sqrt(found.covariance[1, 1])
    if unsure > UNSURE:
        share = f"{found.law.parallel:.2f} give or take {unsure:.2f}"
        return f"the share that can be divided is only known as {share}", PROBE_LIMIT
    if len(found.newest) >= REVISIT_RUNS and len(set(found.newest[-REVISIT_RUNS:])) == 1:
        return SAME, PROBE_LIMIT
    return "", 1.0


def _near(found: StageParallelism, chunks: FloatArray) -> BoolArray:
    """Return which numbers are not too far from all that ran: there the law may not hold."""
    ran = found.seen or {1: 0}
    near = (chunks <= PROBE_FACTOR * max(ran)) & (chunks >= min(ran) / PROBE_FACTOR)
    return np.asarray(near)


def _most_telling(found: StageParallelism, table: _Table, worth: BoolArray, data_scale: float) -> int:
    """Return where, among what is worth it, one more run would make p surest."""
    gradient = found.law.log_gradient(
        table.chunks, np.full(len(table.chunks), data_scale), found.law.startup_s
    )
    along = gradient @ found.covariance
    gain = along[:, 1] ** 2 / (found.noise_log_sd**2 + np.einsum("ij,ij->i", along, gradient))
    return int(np.where(worth, gain, -1.0).argmax())


def _table(found: Timed, most: int, goal: ChunkGoal, data_scale: float, load: float | None) -> _Table:
    if most < 1:
        raise RequestError(f"at most {most} chunks are allowed", cure="Allow at least 1.")
    chunks = np.arange(1, most + 1, dtype=np.float64)
    seconds, log_sd = found.estimate(chunks, data_scale, load)
    node_hours = np.ceil(chunks / goal.chunks_per_node) * seconds / 3600
    cost = node_hours * goal.node_price_per_hour + chunks * goal.price_per_chunk
    scores = {
        "time": seconds,
        "node_hours": node_hours,
        "cost": cost,
        "knee": np.zeros(most),
        "published": seconds * np.sqrt(chunks),
    }
    slack = {}
    if goal.deadline_s is not None:
        # The estimate is the median.
        sure = 0.0 if goal.confidence is None else NormalDist().inv_cdf(goal.confidence)
        slack["deadline_s"] = seconds * np.exp(sure * log_sd) / goal.deadline_s - 1
    if goal.max_node_hours is not None:
        slack["max_node_hours"] = node_hours / goal.max_node_hours - 1
    if goal.max_cost is not None:
        slack["max_cost"] = cost / goal.max_cost - 1
    table = _Table(chunks, seconds, log_sd, scores[goal.objective], slack)
    if goal.objective == "knee":
        return table._replace(score=_above_chord(seconds, node_hours, table.feasible))
    return table


def _above_chord(seconds: FloatArray, node_hours: FloatArray, feasible: BoolArray) -> FloatArray:
    """Return seconds plus node-hours, each as a share of its range among what is feasible, plus 1."""
    if not feasible.any():
        return np.ones(len(seconds))
    shares = [
        (amount - amount[feasible].min()) / max(float(np.ptp(amount[feasible])), 1e-12)
        for amount in (seconds, node_hours)
    ]
    return np.asarray(1.0 + shares[0] + shares[1])


def _best(table: _Table, goal: ChunkGoal, among: BoolArray | None = None) -> int:
    score = np.where(table.feasible if among is None else among, table.score, np.inf)
    enough = score.min() * (1 + LEAST_GAIN if goal.objective == "time" else 1)
    return int(np.flatnonzero(score <= enough)[0])


def _said(goal: ChunkGoal) -> str:
    return goal.objective.replace("_", "-")


def _choice(table: _Table, at: int, why: Why, words: str) -> Choice:
    return Choice(int(table.chunks[at]), float(table.seconds[at]), float(table.log_sd[at]), why, words)


def _infeasible(table: _Table) -> Choice:
    """Say which constraints no number of chunks meets; all of them, where each alone could be met."""
    alone = tuple(name for name, slack in table.slack.items() if slack.min() > 0)
    binding = alone or tuple(table.slack)
    nearest = int(np.max(list(table.slack.values()), axis=0).argmin())
    words = (
        f"no number of chunks up to {len(table.chunks)} meets {' and '.join(binding)}; the nearest is "
        f"{int(table.chunks[nearest])} with {table.seconds[nearest]:.3g} s"
    )
    return Choice(
        None, float(table.seconds[nearest]), float(table.log_sd[nearest]), "infeasible", words, binding
    )
