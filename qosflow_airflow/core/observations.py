"""Observed I/O: one row per task, file and operation of a traced run."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

COLUMNS: dict[str, str] = {
    "operation": "str",
    "stage": "str",
    "task": "str",
    "file": "str",
    "producer": "str",
    "volume_bytes": "float",
    "file_bytes": "float",
    "file_size_bytes": "float",
    "access_bytes": "float",
    "accesses": "float",
    "io_s": "float",
    "tasks": "int",
    "nodes": "int",
    "compute_s": "float",
    "start_s": "float",
    "end_s": "float",
    "tier": "str",
}
"""The columns of :attr:`IOObservations.frame` and their kinds.

``operation`` is ``read`` or ``write``; ``task`` identifies the process; ``producer`` is the stage (or
``initial_data``) whose file is read, empty where not said; ``volume_bytes`` is what the task moved with this
operation in all its files; ``file_bytes`` what it moved in this file and ``file_size_bytes`` how large the
file is (both NaN where the trace does not say); ``access_bytes`` the mean size of an access; ``io_s`` the
task's seconds in this operation; ``tasks`` the stage's instances; ``nodes`` the run's node count;
``io_s``, ``compute_s``, ``start_s`` and ``end_s`` NaN where not known; ``tier`` the storage type that the
trace names.
"""


@dataclass(frozen=True)
class IOObservations:
    """A validated table with the columns of :data:`COLUMNS`, one row per task, file and operation.

    ``scales`` are the node counts that the file asks to be projected to (``numNodesList``). ``nodes_known``
    is false where the same observation is repeated for several node counts: it was made at one of them.
    """

    frame: pd.DataFrame
    scales: tuple[int, ...] = ()
    nodes_known: bool = True

    @property
    def stages(self) -> frozenset[str]:
        """The stages that the trace knows."""
        return frozenset(self.frame["stage"].unique())
