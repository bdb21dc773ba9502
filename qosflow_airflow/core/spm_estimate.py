"""SPM's estimate of transfer times from observations and rates, as its published tables have it.

For comparison with the public QoSFlow artifact, defects included; the description and the tables are the
source. What differs from :mod:`~qosflow_airflow.core.estimate`:

- A task's volume counts once per file that the task touches, and once per node count that is asked for.
- A stage's time is that of all its tasks' volume, whatever the node count, in accesses of one task's mean
  size. It runs on no more nodes than it has tasks.
- Copies to or from a stage take the files of the stage, read or written, in lists of 60 (task, file) pairs;
  each list is copied by as many tasks as it has files. The stage's whole volume, times the node count, is the
  volume of each list; a file's volume is the least that any task of the workflow moved.
- For one task and file the last line of the trace counts; over tasks, files and lists the longest time, on
  the producer's and on the consumer's side apart, so that they need not belong together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import pandas as pd

from qosflow_airflow.core.observations import IOObservations
from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.core.spm_rates import MIB, SpmRates
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer_table import COLUMNS, TransferTable
from qosflow_airflow.core.workflow import Workflow

PAIRS_PER_LIST = 60
"""Pairs of task and file that one list of copies holds at most."""
COPY_ACCESS_BYTES = 4096.0

_Key = tuple[str, int]
"""Tier, or source-destination, and tasks per node."""
_Side = Mapping[str, Mapping[_Key, float]]
"""Per file, the seconds at each tier and tasks per node."""


class _Row(NamedTuple):
    """What SPM uses of one observed line."""

    stage: str
    task: str
    file: str
    operation: str
    volume_mib: float
    access_bytes: float
    tasks: int


class _List(NamedTuple):
    """Files that are copied together, and the kinds of copies that are made of them."""

    files: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]


def spm_transfer_table(
    workflow: Workflow, catalog: TierCatalog, observations: IOObservations, rates: StorageRates
) -> TransferTable:
    """Return the transfer times that SPM derives, for the node counts that the observations name.

    A tier without measured rates has no rows. Tiers stand under the catalog's names.
    """
    frame = observations.frame
    nodes = observations.scales or tuple(sorted({int(count) for count in frame["nodes"]}))
    return _SpmEstimate(workflow, catalog, _rows(frame), nodes, SpmRates(rates)).table()


def _rows(frame: pd.DataFrame) -> tuple[_Row, ...]:
    in_mib = frame.assign(volume_mib=frame["volume_bytes"] / MIB)
    columns = [in_mib[name].tolist() for name in _Row._fields]
    return tuple(_Row._make(cells) for cells in zip(*columns, strict=True))


@dataclass(frozen=True)
class _SpmEstimate:
    workflow: Workflow
    catalog: TierCatalog
    rows: tuple[_Row, ...]
    nodes: tuple[int, ...]
    rates: SpmRates

    def table(self) -> TransferTable:
        found: list[tuple[object, ...]] = []
        for edge in self.workflow.edges:
            if edge.producer in self._observed and edge.consumer in self._observed:
                written = {row.file for row in self._by_stage[edge.producer] if row.operation == "write"}
                side = {
                    file: times for file, times in self._observed[edge.producer].items() if file in written
                }
                times = _paired(side, self._observed[edge.consumer], _same)
                found += [(*edge, *row) for row in times]
        for name, own in self._observed.items():
            stay = dict.fromkeys(own, self._stay)
            into, out_of = self._copies(self._lists_in[name]), self._copies(self._lists_out[name])
            for other in (stay, into):
                found += [(f"stage_in-{name}", name, *row) for row in _paired(other, own, _arrives)]
            for other in (stay, out_of):
                found += [(name, f"stage_out-{name}", *row) for row in _paired(own, other, _departs)]
        return TransferTable(pd.DataFrame(found, columns=list(COLUMNS)))

    @cached_property
    def _by_stage(self) -> dict[str, list[_Row]]:
        stages: dict[str, list[_Row]] = {}
        for row in self.rows:
            stages.setdefault(row.stage, []).append(row)
        return stages

    @cached_property
    def _observed(self) -> dict[str, _Side]:
        """Per stage and file, the longest of the tasks' reads and writes."""
        return {name: self._io(rows) for name, rows in self._by_stage.items()}

    def _io(self, rows: Sequence[_Row]) -> _Side:
        volume_mib: dict[str, float] = {}
        for row in rows:
            volume_mib[row.operation] = volume_mib.get(row.operation, 0.0) + row.volume_mib
        last = {(row.task, row.file): row for row in rows}
        side: dict[str, dict[_Key, float]] = {}
        known: dict[tuple[str, float, int], dict[_Key, float]] = {}
        for row in last.values():
            same = (row.operation, row.access_bytes, row.tasks)
            if same not in known:
                known[same] = self._io_times(row, volume_mib[row.operation] * len(self.nodes))
            _lengthen(side.setdefault(row.file, {}), known[same])
        return side

    def _io_times(self, row: _Row, total_mib: float) -> dict[_Key, float]:
        times: dict[_Key, float] = {}
        for tier, nodes in product(self.catalog.tiers, self.nodes):
            storage = (row.operation, tier.profile_name, tier.profile_name, False)
            used, tasks_per_node = min(nodes, row.tasks), math.ceil(row.tasks / nodes)
            seconds = self.rates.seconds(storage, used, tasks_per_node, row.access_bytes, total_mib)
            if seconds is not None:
                times[tier.name, tasks_per_node] = seconds
        return times

    @cached_property
    def _stay(self) -> dict[_Key, float]:
        """No time to stay on a tier, at every count of tasks per node that occurs anywhere."""
        counts = {math.ceil(row.tasks / nodes) for row in self.rows for nodes in self.nodes}
        lists = [part for parts in (self._lists_in, self._lists_out) for part in parts.values()]
        counts |= {len(one.files) for part in lists for one in part}
        return {(tier.name, count): 0.0 for tier in self.catalog.tiers for count in sorted(counts)}

    @cached_property
    def _lists_in(self) -> dict[str, list[_List]]:
        """Per stage, what is copied in: its files, and the inputs of the first level that reads any."""
        levels = [self.workflow.stage(row.stage).level for row in self.rows if row.operation == "read"]
        first = _in_lists(row for row in self._at(min(levels, default=-1)) if row.operation == "read")
        return {
            name: [_List(files, self._all_copies) for files in _in_lists(rows)]
            + [
                _List(files, self._to_shared + self._to_local)
                for files in first
                if self.workflow.stage(name).level == min(levels)
            ]
            for name, rows in self._by_stage.items()
        }

    @cached_property
    def _lists_out(self) -> dict[str, list[_List]]:
        """Per stage, what is copied out: its files, its outputs, and on the last level all files there."""
        last = self.workflow.levels[-1]
        final = _in_lists(self._at(last))
        return {
            name: [_List(files, self._all_copies) for files in _in_lists(rows)]
            + [
                _List(files, self._all_copies)
                for files in _in_lists(row for row in rows if row.operation == "write")
            ]
            + [_List(files, self._to_shared) for files in final if self.workflow.stage(name).level == last]
            for name, rows in self._by_stage.items()
        }

    def _at(self, level: int) -> list[_Row]:
        return [row for row in self.rows if self.workflow.stage(row.stage).level == level]

    @cached_property
    def _to_local(self) -> tuple[tuple[str, str], ...]:
        return tuple((source, destination) for destination, source in self._to_shared)

    @cached_property
    def _to_shared(self) -> tuple[tuple[str, str], ...]:
        tiers = self.catalog.tiers
        return tuple((a.name, b.name) for a in tiers for b in tiers if b.shared and not a.shared)

    @cached_property
    def _all_copies(self) -> tuple[tuple[str, str], ...]:
        fan_out = tuple((tier.name, tier.name) for tier in self.catalog.tiers if not tier.shared)
        return (*self._to_shared, *self._to_local, *fan_out)

    @cached_property
    def _file_mib(self) -> dict[str, float]:
        sizes: dict[str, float] = {}
        for row in self.rows:
            sizes[row.file] = min(sizes.get(row.file, math.inf), row.volume_mib)
        return sizes

    def _copies(self, lists: Sequence[_List]) -> _Side:
        """Per file, the longest copy of the lists that hold it."""
        moved_mib = {
            remote: sum(
                self._file_mib[name]
                for name in {
                    file: None
                    for one in lists
                    for file in one.files
                    if any((source == destination) == remote for source, destination in one.copies)
                }
            )
            for remote in (False, True)
        }
        side: dict[str, dict[_Key, float]] = {}
        for one in lists:
            times = self._copy_times(one, moved_mib)
            for file in one.files:
                _lengthen(side.setdefault(file, {}), times)
        return side

    def _copy_times(self, one: _List, moved_mib: Mapping[bool, float]) -> dict[_Key, float]:
        times: dict[_Key, float] = {}
        for (source, destination), nodes in product(one.copies, self.nodes):
            remote = source == destination
            names = (self.catalog.tier(source).profile_name, self.catalog.tier(destination).profile_name)
            tasks_per_node = math.ceil(len(one.files) / nodes)
            seconds = self.rates.seconds(
                ("copy", *names, remote), nodes, tasks_per_node, COPY_ACCESS_BYTES, nodes * moved_mib[remote]
            )
            if seconds is not None:
                times[f"{source}-{destination}", tasks_per_node] = seconds
        return times


def _in_lists(rows: Iterable[_Row]) -> list[tuple[str, ...]]:
    """Return the files of every ``PAIRS_PER_LIST`` pairs of task and file, in the order of the trace."""
    pairs = list(dict.fromkeys((row.task, row.file) for row in rows))
    starts = range(0, len(pairs), PAIRS_PER_LIST)
    return [tuple(dict.fromkeys(file for _, file in pairs[at : at + PAIRS_PER_LIST])) for at in starts]


def _lengthen(known: dict[_Key, float], times: Mapping[_Key, float]) -> None:
    for key, seconds in times.items():
        known[key] = max(known.get(key, 0.0), seconds)


def _same(producer: str, consumer: str) -> bool:
    return producer == consumer


def _arrives(producer: str, consumer: str) -> bool:
    return producer.rpartition("-")[2] == consumer


def _departs(producer: str, consumer: str) -> bool:
    return producer == consumer.partition("-")[0]


def _paired(
    producers: _Side, consumers: _Side, fits: Callable[[str, str], bool]
) -> list[tuple[str, str, int, int, float, float]]:
    """Return rows of tiers, tasks per node and the longest seconds of either side, over files of both."""
    # Most files of a stage share their keys, and then the longest of either side suffices.
    alike: dict[tuple[tuple[_Key, ...], tuple[_Key, ...]], tuple[dict[_Key, float], dict[_Key, float]]] = {}
    for file in producers.keys() & consumers.keys():
        keys = (tuple(producers[file]), tuple(consumers[file]))
        left, right = alike.setdefault(keys, ({}, {}))
        _lengthen(left, producers[file])
        _lengthen(right, consumers[file])
    times: dict[tuple[_Key, _Key], tuple[float, float]] = {}
    for left, right in alike.values():
        for (key, producer_s), (other, consumer_s) in product(left.items(), right.items()):
            if fits(key[0], other[0]):
                known = times.get((key, other), (0.0, 0.0))
                times[key, other] = (max(known[0], producer_s), max(known[1], consumer_s))
    return [(a[0], b[0], a[1], b[1], *seconds) for (a, b), seconds in times.items()]
