"""Whether learning a stage's parallelism finds better numbers of chunks than ARBO's moving average does.

    python -m benchmarks.parallelism [--stages 150] [--runs 30] [--seed 1] [--noise 0.08] [--contention 0]
        [--json FILE]

So many stages, each with a law of its own: 20 to 600 s in one chunk, of which 30 to 98 % can be divided, data
of 0.5 to 2 times the usual size with an exponent of 0.7 to 1.3, and 1 to 15 s to start. Times vary by 8 %.
Both learners run every stage so many times in a closed loop: each chooses a number of chunks from 1 to 64 by
ARBO's own objective, T sqrt(s), and sees what its own choice took. Both see the same noise, and are told the
same measured start.

ARBO (Amdahl-Residual Bayesian Optimization, github.com/ekogl/ARBO, its report's sections "Proposed Algorithm"
and "Break Free from Linear Assumption") is written from its description: a first run in one chunk is the
baseline, a second in five, then p and k are moving averages (0.7 and 0.8 of the old value) of what each run
implies. A Gaussian process (squared exponential) over s, gamma and load adds the mean of its residuals; the
moving average without it is a row of its own.

The regret of a choice is what it takes, by the true law, beyond the best choice. Reported: the mean over all
stages of the choice after the last run, for data of the usual size; the mean over all choices that were run,
from the third on; how far p is off; and the share of stages left at one chunk though more are better. Then a
stage of which one half can be divided, known from ten runs in one chunk and nothing else.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.report import write_report
from qosflow_airflow.learn.amdahl import AmdahlLaw, StageTiming
from qosflow_airflow.learn.chunk_choice import ChunkGoal, choose_chunks, next_chunks
from qosflow_airflow.learn.parallelism_fit import fit_parallelism

MOST = 64
GOAL = ChunkGoal("published")
CHUNKS = np.arange(1, MOST + 1, dtype=np.float64)
FIRST_COUNTED = 2
"""The first two runs of a stage are given: one chunk, then five."""


@dataclass(frozen=True)
class Truth(AmdahlLaw):
    """A stage as it is: by the law, and with ``contention`` longer by that share with every further chunk."""

    contention: float = 0.0

    def work_s(self, chunks: np.ndarray, data_scale: np.ndarray | float = 1.0) -> np.ndarray:
        """Return the seconds at work."""
        return super().work_s(chunks, data_scale) * (1 + self.contention * (chunks - 1))


class Learner(Protocol):
    """Chooses numbers of chunks and learns from what they took."""

    def next(self, data_scale: float) -> int:
        """Return the number of chunks to run next."""

    def best(self) -> int:
        """Return the best number of chunks for data of the usual size, by all that is known."""

    def learn(self, run: StageTiming) -> None:
        """Take a finished run."""

    @property
    def parallel(self) -> float:
        """The share that can be divided, as far as is known."""


@dataclass
class Fitted:
    """What this project does."""

    runs: list[StageTiming] = field(default_factory=list)

    def next(self, data_scale: float) -> int:
        """Return the number of chunks to run next: one chunk where nothing is known."""
        if not self.runs:
            return 1
        return int(next_chunks(self._fitted(), MOST, GOAL, data_scale=data_scale).chunks or 1)

    def best(self) -> int:
        """Return the best number."""
        return int(choose_chunks(self._fitted(), MOST, GOAL).chunks or 1)

    def learn(self, run: StageTiming) -> None:
        """Take a run."""
        self.runs.append(run)

    @property
    def parallel(self) -> float:
        """The fitted share."""
        return self._fitted().law.parallel

    def _fitted(self) -> Any:
        found = fit_parallelism(self.runs)
        assert found is not None
        return found


@dataclass
class MovingAverage:
    """ARBO's learner, from its description."""

    residual: bool
    startup_s: float
    parallel: float = 1.0
    exponent: float = 1.0
    baseline_s: float = 0.0
    history: list[tuple[float, float, float, float]] = field(default_factory=list)

    def next(self, data_scale: float) -> int:
        """Return 1, then 5, then the number with the least predicted T sqrt(s)."""
        if len(self.history) < FIRST_COUNTED:
            return (1, 5)[len(self.history)]
        limit = 50 if self.parallel >= 0.99 else max(math.ceil(self.parallel / (1 - self.parallel)), 15)
        chunks = np.arange(1.0, min(math.ceil(1.5 * limit), MOST) + 1)
        seconds = self._law().seconds(chunks, data_scale) + self._residual(chunks, data_scale)
        return int(chunks[(seconds * np.sqrt(chunks)).argmin()])

    def best(self) -> int:
        """Return the same for the usual size."""
        return self.next(1.0)

    def learn(self, run: StageTiming) -> None:
        """Update the averages; the first run is the baseline."""
        if not self.history:
            self.baseline_s = run.seconds
            self.history.append((1.0, run.data_scale, 0.0, 0.0))
            return
        work_s = max(0.0, run.seconds - self.startup_s)
        s, gamma = float(run.chunks), run.data_scale
        if s > 1:
            implied = s / (s - 1) * (1 - work_s / (gamma**self.exponent * self.baseline_s))
            self.parallel = 0.7 * self.parallel + 0.3 * min(max(implied, 0.01), 0.99)
        if not 0.99 <= gamma <= 1.01:
            expected = self.baseline_s * (1 - self.parallel + self.parallel / s)
            implied = math.log(max(1e-3, work_s) / expected) / math.log(gamma)
            self.exponent = 0.8 * self.exponent + 0.2 * min(max(implied, 0.5), 3.0)
        left_over = run.seconds - float(self._law().seconds(np.array(s), gamma))
        self.history.append((s, gamma, 0.0, left_over))

    def _law(self) -> AmdahlLaw:
        return AmdahlLaw(self.baseline_s, self.parallel, self.exponent, self.startup_s)

    def _residual(self, chunks: np.ndarray, data_scale: float) -> np.ndarray:
        if not self.residual:
            return np.zeros(len(chunks))
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel

        kernel = ConstantKernel(1.0, (1e-3, 1e4)) * RBF([10, 1, 10], (1e-2, 1e2))
        process = GaussianProcessRegressor(kernel=kernel, alpha=1.0, random_state=0)
        known = np.array(self.history[-50:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            process.fit(known[:, :3], known[:, 3])
        queries = np.column_stack([chunks, np.full(len(chunks), data_scale), np.zeros(len(chunks))])
        return np.asarray(process.predict(queries))


def main() -> None:
    """Run both learners on all stages, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", type=int, default=150)
    parser.add_argument("--runs", type=int, default=30, help="of each stage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.08, help="standard deviation of ln time")
    parser.add_argument("--contention", type=float, default=0.0, help="more time per further chunk, a share")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    rows = [one_stage(options, number) for number in range(options.stages)]
    found = {name: summary([row[name] for row in rows]) for name in rows[0]}
    ratios = {
        other: {
            name: found["fitted"][name] / found[other][name]
            for name in ("last_regret", "mean_regret", "share_error")
        }
        for other in ("arbo", "moving average")
    }
    for name, said in found.items():
        print(
            f"{name:14} regret {said['last_regret']:.2%} after the last run, "
            f"{said['mean_regret']:.2%} on the way; "
            f"p off by {said['share_error']:.3f}; stuck at 1 {said['stuck']:.1%}"
        )
    for other, ratio in ratios.items():
        print(f"fitted over {other}:", ", ".join(f"{name} {value:.2f}" for name, value in ratio.items()))
    stage = injected(options.noise)
    print("p = 0.5, ten runs in one chunk, then:", stage)
    claim = "learning parallelism finds better numbers of chunks than a moving average"
    report = {
        "claim": claim,
        "seed": options.seed,
        "contention": options.contention,
        **found,
        "ratios": ratios,
        "injected": stage,
    }
    write_report(report, options.json, Path(__file__).stem)


def one_stage(options: argparse.Namespace, number: int) -> dict[str, dict[str, float]]:
    """Run one stage with each learner."""
    rng = np.random.default_rng([options.seed, number])
    law = Truth(
        float(np.exp(rng.uniform(np.log(20), np.log(600)))),
        float(rng.uniform(0.3, 0.98)),
        float(rng.uniform(0.7, 1.3)),
        float(rng.uniform(1, 15)),
        options.contention,
    )
    scales = np.concatenate([[1.0, 1.0], np.exp(rng.uniform(np.log(0.5), np.log(2), options.runs - 2))])
    noise = np.exp(options.noise * rng.normal(size=options.runs))
    learners: dict[str, Learner] = {
        "arbo": MovingAverage(True, law.startup_s),
        "moving average": MovingAverage(False, law.startup_s),
        "fitted": Fitted(),
    }
    return {name: closed_loop(learner, law, scales, noise) for name, learner in learners.items()}


def closed_loop(learner: Learner, law: Truth, scales: np.ndarray, noise: np.ndarray) -> dict[str, float]:
    """Return regrets, how far p is off, and whether the stage is left at one chunk wrongly."""
    on_the_way = []
    for at, (scale, factor) in enumerate(zip(scales.tolist(), noise.tolist(), strict=True)):
        chunks = learner.next(scale)
        if at >= FIRST_COUNTED:
            on_the_way.append(regret(law, chunks, scale))
        took_s = float(law.seconds(np.array(float(chunks)), scale)) * factor
        learner.learn(StageTiming(chunks, took_s, scale, min(law.startup_s, 0.99 * took_s)))
    last = learner.best()
    best = int(cost(law, 1.0).argmin()) + 1
    return {
        "last_regret": regret(law, last, 1.0),
        "mean_regret": float(np.mean(on_the_way)),
        "share_error": abs(learner.parallel - law.parallel),
        "stuck": float(last == 1 < best),
    }


def cost(law: Truth, scale: float) -> np.ndarray:
    """Return the true T sqrt(s) per number of chunks."""
    return law.seconds(CHUNKS, scale) * np.sqrt(CHUNKS)


def regret(law: Truth, chunks: int, scale: float) -> float:
    """Return the share by which a choice is worse than the best one."""
    true = cost(law, scale)
    return float(true[chunks - 1] / true.min() - 1)


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the means."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def injected(noise: float) -> dict[str, list[int]]:
    """Return what is run next of a stage with p = 0.5 that only ever ran in one chunk, by objective."""
    law = AmdahlLaw(100.0, 0.5, 1.0, 2.0)
    found = {}
    for objective in ("time", "knee", "published"):
        rng = np.random.default_rng(5)
        runs, chosen = [], [1] * 10
        for at in range(30):
            chunks = chosen[at] if at < len(chosen) else 1
            took_s = float(law.seconds(np.array(float(chunks)))) * math.exp(noise * rng.normal())
            runs.append(StageTiming(chunks, took_s, 1.0, 2.0))
            if at >= 9:
                fitted = fit_parallelism(runs)
                assert fitted is not None
                chosen.append(int(next_chunks(fitted, 16, ChunkGoal(objective)).chunks or 0))  # type: ignore[arg-type]
        found[objective] = chosen[10:]
    return found


if __name__ == "__main__":
    main()
