"""Stage times: seconds to read, write, compute and move data, per stage or edge and tier, at one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qosflow_airflow.core.anchoring import Anchor, anchors_from_json, anchors_to_json
from qosflow_airflow.core.chunk_times import ChunkTimes
from qosflow_airflow.core.demand import Demand
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.workflow import INITIAL_DATA, Edge

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Provenance(IntEnum):
    """Where a time comes from, from best to worst."""

    MEASURED = 0
    EXTRAPOLATED = 1
    NOT_OBSERVED = 2
    """A declared edge without any I/O in the trace: 0 s, but said."""
    UNKNOWN = 3
    """Needed, and there is no data: NaN, never 0 s."""


@frozen
class TimeTable:
    """Seconds with their provenance; all arrays have one shape.

    ``tasks_per_node`` is that of the measurement behind each value, -1 where there is none. ``seconds`` is
    NaN where ``provenance`` is ``UNKNOWN``, or 0 where the rules under which the table was built count it so.
    ``log_sd`` is the standard deviation of the natural logarithm of each time: NaN where nothing tells it,
    0 only where the time is certain.
    """

    seconds: FloatArray
    provenance: NDArray[np.int8]
    tasks_per_node: IntArray
    log_sd: FloatArray

    @classmethod
    def unknown(cls, shape: Sequence[int]) -> TimeTable:
        """Return a table that knows nothing."""
        return cls(
            np.full(shape, np.nan),
            np.full(shape, Provenance.UNKNOWN, dtype=np.int8),
            np.full(shape, -1, dtype=np.int64),
            np.full(shape, np.nan),
        )

    def put(
        self,
        at: tuple[int, ...],
        seconds: float,
        provenance: Provenance,
        tasks_per_node: int = -1,
        log_sd: float = math.nan,
    ) -> None:
        """Fill one cell, while the table is being built."""
        self.seconds[at] = seconds
        self.provenance[at] = provenance
        self.tasks_per_node[at] = tasks_per_node
        self.log_sd[at] = log_sd

    def copied(self) -> TimeTable:
        """Return a copy whose times, provenances and spreads can be changed."""
        return replace(
            self,
            seconds=self.seconds.copy(),
            provenance=self.provenance.copy(),
            log_sd=self.log_sd.copy(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON with ``null`` for NaN, the inverse of :meth:`from_json`."""
        return {
            "seconds": _nested(self.seconds),
            "provenance": self.provenance.tolist(),
            "tasks_per_node": self.tasks_per_node.tolist(),
            "log_sd": _nested(self.log_sd),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TimeTable:
        """Build a table from what :meth:`to_json` returned."""
        seconds = np.array(value["seconds"], dtype=np.float64)
        log_sd = value.get("log_sd")  # models of before intervals were kept have none
        return cls(
            seconds,
            np.array(value["provenance"], dtype=np.int8),
            np.array(value["tasks_per_node"], dtype=np.int64),
            np.full(seconds.shape, np.nan) if log_sd is None else np.array(log_sd, dtype=np.float64),
        )


@frozen
class StageTimes:
    """Everything a makespan is made of, at one node count.

    Axes: S stages (the workflow's order), T tiers (the catalog's order), E edges (``edges``). ``read`` and
    ``write`` are S x T; ``compute`` is S; ``stage_in`` and ``stage_out`` are E x T x T: the seconds that the
    data of an edge takes from the first tier to the second, as the consumer's copy in (priced with its input)
    and as the producer's copy out (priced with its output).

    ``edge_bytes`` (E) is what flows along each edge and ``output_bytes`` (S) what each stage writes, all
    tasks together, every file once, NaN where not known; ``None`` where no trace says any of it.
    ``anchors`` is what runs were seen to do, that ``read`` and ``write`` were held against. All times are
    those of work that has devices and processors to itself; ``demand`` is what it takes of them, ``None``
    where nothing tells it: then nothing is taken to be shared.
    ``chunks`` is what stages read and write in other numbers of tasks, ``None`` where nothing tells it.
    """

    nodes: int
    stages: tuple[str, ...]
    tiers: tuple[str, ...]
    edges: tuple[Edge, ...]
    read: TimeTable
    write: TimeTable
    compute: TimeTable
    stage_in: TimeTable
    stage_out: TimeTable
    edge_bytes: FloatArray | None = None
    output_bytes: FloatArray | None = None
    anchors: tuple[Anchor, ...] = ()
    chunks: ChunkTimes | None = None
    demand: Demand | None = None

    @property
    def compute_known(self) -> bool:
        """Whether compute time is known for every stage; where it is not, it counts as 0 s."""
        return bool((self.compute.provenance < Provenance.NOT_OBSERVED).all())

    def as_extrapolated(self) -> StageTimes:
        """Return the same times, none of which counts as measured."""
        tables = {}
        for name in _TABLES:
            table = getattr(self, name)
            measured = table.provenance == Provenance.MEASURED
            provenance = np.where(measured, np.int8(Provenance.EXTRAPOLATED), table.provenance)
            tables[name] = replace(table, provenance=provenance)
        return replace(self, **tables)

    def with_spread(self, spreads: Mapping[str, Mapping[str, float]]) -> StageTimes:
        """Return the same times, with the spread of what they are made of added to their own.

        ``spreads`` holds, by stage, the standard deviations of the logarithm of what it reads (``read``),
        writes (``write``) and computes (``compute``). A copy carries what its producer wrote, and of the
        outside input what its consumer reads.
        """

        def of(stage: str, part: str) -> float:
            return spreads.get(stage, {}).get(part, 0.0)

        added = {
            part: np.array([of(stage, part) for stage in self.stages])
            for part in ("read", "write", "compute")
        }
        copied = np.array(
            [
                of(edge.consumer, "read") if edge.producer == INITIAL_DATA else of(edge.producer, "write")
                for edge in self.edges
            ]
        )
        added |= {"stage_in": copied, "stage_out": copied}
        tables = {}
        for name, spread in added.items():
            table = getattr(self, name)
            spread = spread.reshape(-1, *[1] * (table.seconds.ndim - 1))
            # A time of nothing is certain however much more of it there is.
            log_sd = np.where(table.seconds == 0, table.log_sd, np.hypot(table.log_sd, spread))
            tables[name] = replace(table, log_sd=log_sd)
        return replace(self, **tables)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        tables = {name: getattr(self, name).to_json() for name in _TABLES}
        return {
            "nodes": self.nodes,
            "stages": list(self.stages),
            "tiers": list(self.tiers),
            "edges": [list(edge) for edge in self.edges],
            **tables,
            "edge_bytes": _plain(self.edge_bytes),
            "output_bytes": _plain(self.output_bytes),
            "anchors": anchors_to_json(self.anchors),
            "chunks": None if self.chunks is None else self.chunks.to_json(),
            "demand": None if self.demand is None else self.demand.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageTimes:
        """Build stage times from what :meth:`to_json` returned."""
        shapes = _shapes(len(value["stages"]), len(value["tiers"]), len(value["edges"]))
        tables = {name: TimeTable.from_json(value[name]) for name in _TABLES}
        for name, table in tables.items():
            if table.seconds.size == 0:
                tables[name] = TimeTable.unknown(shapes[name])
        return cls(
            nodes=value["nodes"],
            stages=tuple(value["stages"]),
            tiers=tuple(value["tiers"]),
            edges=tuple(Edge(*edge) for edge in value["edges"]),
            **tables,
            edge_bytes=_floats(value.get("edge_bytes")),
            output_bytes=_floats(value.get("output_bytes")),
            anchors=anchors_from_json(value.get("anchors", ())),
            # Models of before numbers of tasks were estimated, and demands, have none.
            chunks=ChunkTimes.from_json(value["chunks"]) if value.get("chunks") else None,
            demand=Demand.from_json(value["demand"], len(value["tiers"])) if value.get("demand") else None,
        )


def _nested(values: FloatArray) -> Any:
    """Return nested lists with ``None`` for NaN."""
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return plain.tolist()


def _plain(values: FloatArray | None) -> list[float | None] | None:
    if values is None:
        return None
    return [None if np.isnan(value) else float(value) for value in values]


def _floats(values: Sequence[float | None] | None) -> FloatArray | None:
    return None if values is None else np.array(values, dtype=np.float64)


_TABLES = ("read", "write", "compute", "stage_in", "stage_out")


def _shapes(stages: int, tiers: int, edges: int) -> dict[str, tuple[int, ...]]:
    return {
        "read": (stages, tiers),
        "write": (stages, tiers),
        "compute": (stages,),
        "stage_in": (edges, tiers, tiers),
        "stage_out": (edges, tiers, tiers),
    }


def blank_tables(stages: int, tiers: int, edges: int) -> dict[str, TimeTable]:
    """Return the five tables of :class:`StageTimes`, knowing nothing, ready to be filled."""
    return {name: TimeTable.unknown(shape) for name, shape in _shapes(stages, tiers, edges).items()}
