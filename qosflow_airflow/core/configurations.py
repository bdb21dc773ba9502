"""A whole space at one scale, evaluated: the table that a person opens and regions are fitted to."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qosflow_airflow.core.describe import state_of
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.schedule import SPLIT, Schedule
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray

KEPT = ("layouts", "makespan_s", "provenance", "on_critical_path", "over_capacity")
"""The arrays that are kept; the rest follows from the stage times."""


@dataclass(frozen=True)
class EvaluatedConfigurations:
    """Every valid layout of a space at one node count, with what it takes.

    Axes: C configurations, S stages. ``layouts`` and ``on_critical_path`` are C x S. What does not fit on its
    tiers is ``over_capacity``, and its makespan NaN: it cannot run.
    """

    nodes: int
    layouts: Layouts
    makespan_s: FloatArray
    provenance: NDArray[np.int8]
    on_critical_path: NDArray[np.bool_]
    over_capacity: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.layouts)

    def state_words(self) -> list[str]:
        """Return the state of each configuration in a word."""
        columns = (self.provenance, self.makespan_s, self.over_capacity)
        return [state_of(*cells) for cells in zip(*(column.tolist() for column in columns), strict=True)]

    def states(self) -> dict[str, int]:
        """Return how many configurations are in each state."""
        words = self.state_words()
        return {word: words.count(word) for word in sorted(set(words))}

    def to_bytes(self) -> bytes:
        """Return the arrays as a compressed archive, the inverse of :meth:`from_bytes`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, nodes=self.nodes, **{name: getattr(self, name) for name in KEPT})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> EvaluatedConfigurations:
        """Build the value from what :meth:`to_bytes` returned."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(nodes=int(arrays["nodes"]), **{name: arrays[name] for name in KEPT})


def evaluate_space(model: MakespanModel) -> EvaluatedConfigurations:
    """Evaluate every layout that the rules allow, block by block, or a sample where these are too many."""
    blocks = [
        _evaluated(model, layouts, model.schedule(layouts)) for layouts in model.space.representatives()
    ]
    arrays = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in KEPT}
    return EvaluatedConfigurations(nodes=model.times.nodes, **arrays)


def _evaluated(model: MakespanModel, layouts: Layouts, schedule: Schedule) -> EvaluatedConfigurations:
    over = model.capacity.fit(layouts).over
    makespan_s = np.where(over, np.nan, schedule.makespan_s)
    return EvaluatedConfigurations(
        model.times.nodes, layouts, makespan_s, schedule.provenance, schedule.on_critical_path, over
    )


def configuration_frame(model: MakespanModel, layouts: Layouts) -> pd.DataFrame:
    """Return layouts with their makespans as a table, one row each.

    Columns: ``nodes``, ``tier_<stage>``, under a level barrier ``in_<k>``, ``exec_<k>`` and ``out_<k>`` per
    level, ``movement_s``, ``shared_io_s``, ``local_io_s`` and ``compute_s`` (they add up to the makespan),
    ``makespan_s``, ``critical_path``, ``state``.
    """
    schedule = model.schedule(layouts)
    tiers = np.array(model.catalog.names, dtype=object)[layouts]
    columns: dict[str, object] = {"nodes": np.full(len(layouts), model.times.nodes)}
    columns |= {f"tier_{stage}": tiers[:, s] for s, stage in enumerate(model.workflow.stage_names)}
    for phase, seconds in (schedule.level_s or {}).items():
        columns |= {f"{phase}_{level}": seconds[:, k] for k, level in enumerate(model.workflow.levels)}
    columns |= {f"{part}_s": schedule.split_s[:, p] for p, part in enumerate(SPLIT)}
    evaluated = _evaluated(model, layouts, schedule)
    columns["makespan_s"] = evaluated.makespan_s
    columns["critical_path"] = schedule.critical_paths()
    columns["state"] = evaluated.state_words()
    return pd.DataFrame(columns)
