"""Seconds of a stage from its features alone, by boosted trees: how far that gets, beside the I/O model.

Not on the way of any answer: it needs scikit-learn, and says what learning from cases could reach, and how
much of that is left for workflows and platforms it has never seen. Trees see a case's features and, in a
second variant, not the I/O model's own prediction among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from qosflow_airflow.core.transfer import FloatArray, IntArray
from qosflow_airflow.learn.case_features import FEATURES
from qosflow_airflow.learn.cases import Case

FOLDS = 5
FROM_MODEL = ("ln_predicted_s", "ln_io_rate", "compute_share", "copy_share")
"""Features that the I/O model's estimate makes."""
PREDICTORS = ("I/O model", "trees on features and I/O model", "trees on features alone")
SPLITS = ("random", "by workflow", "by platform")


class Quality(NamedTuple):
    """Errors on cases held out: ``r2`` and ``mse_s2`` of seconds, ``r2_log`` of their logarithm."""

    r2: float
    mse_s2: float
    mape: float
    r2_log: float


def trained(
    cases: Sequence[Case], *, with_model: bool = True, seed: int = 0
) -> HistGradientBoostingRegressor:
    """Return trees fitted to the logarithm of the observed seconds of ``cases``."""
    trees = HistGradientBoostingRegressor(max_iter=150, learning_rate=0.08, random_state=seed)
    return trees.fit(_rows(cases, with_model), np.log([case.observed_s for case in cases]))


def predicted_s(
    trees: HistGradientBoostingRegressor, cases: Sequence[Case], *, with_model: bool = True
) -> FloatArray:
    """Return the seconds that fitted trees foretell."""
    return np.exp(np.asarray(trees.predict(_rows(cases, with_model)), dtype=np.float64))


def evaluated(cases: Sequence[Case], seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """Return, by split and predictor, R2, MSE and MAPE of cases held out, each fold trained anew."""
    usable = [case for case in cases if case.flaw is None]
    truth = np.array([case.observed_s for case in usable])
    found: dict[str, dict[str, dict[str, float]]] = {}
    for split in SPLITS:
        said = {name: np.zeros(len(usable)) for name in PREDICTORS}
        said[PREDICTORS[0]] = np.array([case.predicted_s for case in usable])
        for held, rest in _folds(usable, split, seed):
            test, train = [usable[at] for at in held], [usable[at] for at in rest]
            for name, with_model in zip(PREDICTORS[1:], (True, False), strict=True):
                trees = trained(train, with_model=with_model, seed=seed)
                said[name][held] = predicted_s(trees, test, with_model=with_model)
        found[split] = {name: quality(truth, seconds)._asdict() for name, seconds in said.items()}
    return found


def quality(truth_s: FloatArray, said_s: FloatArray) -> Quality:
    """Return how far predictions are off the truth, both in seconds and above 0."""
    return Quality(
        _r2(truth_s, said_s),
        float(np.mean((truth_s - said_s) ** 2)),
        float(np.mean(np.abs(said_s / truth_s - 1.0))),
        _r2(np.log(truth_s), np.log(said_s)),
    )


def _r2(truth: FloatArray, said: FloatArray) -> float:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1.0 - float(((truth - said) ** 2).sum()) / spread if spread > 0 else float("nan")


def _folds(cases: Sequence[Case], split: str, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield held-out and other positions: every case is held out once."""
    groups: Mapping[str, Any] = {
        # A run's stages stay together: they share its load.
        "random": [case.run for case in cases],
        "by workflow": [case.workflow for case in cases],
        "by platform": [case.platform for case in cases],
    }
    names, of = np.unique(groups[split], return_inverse=True)
    folds = np.arange(len(names))
    if split == "random":
        folds = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    for fold in np.unique(folds):
        held = folds[of] == fold
        yield np.flatnonzero(held), np.flatnonzero(~held)


def _rows(cases: Sequence[Case], with_model: bool) -> FloatArray:
    columns = [f for f, name in enumerate(FEATURES) if with_model or name not in FROM_MODEL]
    return np.array([case.features for case in cases])[:, columns]
