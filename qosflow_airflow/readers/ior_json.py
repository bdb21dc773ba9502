"""The output of IOR with ``-O summaryFormat=JSON`` (https://ior.readthedocs.io): rates of many nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qosflow_airflow.core.rates import StorageRates
from qosflow_airflow.readers.csv_table import BYTES_PER_MIB, MAX_BYTES, MAX_COUNT, MAX_SECONDS
from qosflow_airflow.readers.document import Node
from qosflow_airflow.readers.rate_rows import RANDOM, Mounts, RateRows, Transfer, tier_of

TESTS = "tests"
"""The key that tells IOR's output from other documents."""
OPERATIONS = ("read", "write")
DRY_RUN = "a dry run"
BYTES_PER_KIB = 1024
MAX_RATE_MIB_S = 1e12
STEP_S = 1e-4
"""IOR writes times to so many seconds."""
TOLERANCE = 0.02
"""What a volume may differ from the nominal one, relatively, and still be it."""
_DIRECT_ARGUMENTS = ("-B", "--posix.odirect")


def read_ior_json(documents: Iterable[Node], source: str, mounts: Mounts) -> StorageRates:
    """Return the rate of each repetition's reads and writes.

    A test's tier is that of its test file. The volume is what all tasks move by the options, or, where the
    rate contradicts it (a deadline ended the test), what the rate says they moved. ``cached`` marks what the
    page cache may have served: reads, on the node that wrote, of what the same test wrote; writes that were
    not synced.

    Raises
    ------
    MeasurementError
        When a result is not what IOR writes, a test file lies on no tier, or no test gives a rate.
    """
    rows = RateRows(source)
    for document in documents:
        document.require([TESTS])
        top = document.mapping()
        command = top["Command line"].text().split() if "Command line" in top else []
        direct = any(argument in _DIRECT_ARGUMENTS for argument in command)
        for node in top[TESTS].sequence():
            _read_test(_Test(node, direct), rows, mounts)
    return rows.rates()


@dataclass(frozen=True)
class _Test:
    node: Node
    asked_direct: bool

    @property
    def parameters(self) -> Mapping[str, Node]:
        return self._section("Parameters")

    @property
    def options(self) -> Mapping[str, Node]:
        return self._section("Options")

    def _section(self, name: str) -> Mapping[str, Node]:
        self.node.require([name])
        return self.node.mapping()[name].mapping()

    def flag(self, name: str) -> bool:
        """Whether a switch is on; off where this release of IOR does not list it."""
        node = self.parameters.get(name)
        return node is not None and node.content not in (0, False, None, "")

    def count(self, section: str, name: str) -> int:
        node = self.node.mapping()[section]
        node.require([name])
        return node.mapping()[name].whole(1, MAX_COUNT)

    @property
    def file(self) -> Node:
        for section, name in ((self.parameters, "testFileName"), (self.options, "test filename")):
            if name in section:
                return section[name]
        raise self.node.fail("names no test file", "Run IOR with -o, and -O summaryFormat=JSON.")

    @property
    def tasks(self) -> int:
        return self.count("Options", "tasks")

    @property
    def nodes(self) -> int:
        """Nodes of the run; releases before 3.3 say only how many tasks a node has."""
        if "nodes" in self.options:
            return self.count("Options", "nodes")
        return math.ceil(self.tasks / self.count("Options", "clients per node"))

    @property
    def direct(self) -> bool:
        return self.asked_direct or self.flag("useO_DIRECT")

    def results(self) -> Iterator[Node]:
        """Yield each result; releases differ in whether repetitions are lists of their own."""
        self.node.require(["Results"])
        for item in self.node.mapping()["Results"].sequence():
            yield from item.sequence() if isinstance(item.content, tuple) else (item,)

    def is_cached(self, operation: str) -> bool:
        if self.direct:
            return False
        if operation == "write":
            return not (self.flag("fsync") or self.flag("fsyncperwrite"))
        moved_on = self.flag("reorderTasks") or self.flag("reorderTasksRandom")
        return self.flag("writeFile") and (self.nodes == 1 or not moved_on)


def _read_test(test: _Test, rows: RateRows, mounts: Mounts) -> None:
    for result in test.results():
        if test.flag("randomOffset"):
            rows.drop(RANDOM)
        elif test.flag("dryRun"):
            rows.drop(DRY_RUN)
        else:
            rows.add(result.line, _transfer(test, result, mounts))


def _transfer(test: _Test, result: Node, mounts: Mounts) -> Transfer:
    result.require(["access", "bwMiB", "blockKiB", "xferKiB", "totalTime"])
    fields = result.mapping()
    operation = fields["access"].text()
    if operation not in OPERATIONS:
        raise fields["access"].fail(f"is {operation!r}", f"Use one of {', '.join(OPERATIONS)}.")
    segments = test.count("Options", "segments") if "segments" in test.options else 1
    block_bytes = BYTES_PER_KIB * _finite(fields["blockKiB"], MAX_BYTES / BYTES_PER_KIB)
    volume_bytes, seconds = _moved(
        block_bytes * segments * test.tasks,
        _finite(fields["bwMiB"], MAX_RATE_MIB_S) * BYTES_PER_MIB,
        _finite(fields["totalTime"], MAX_SECONDS),
    )
    return Transfer(
        operation=operation,
        tier=tier_of(test.file.text(), mounts, test.file),
        access_bytes=BYTES_PER_KIB * _finite(fields["xferKiB"], MAX_BYTES / BYTES_PER_KIB),
        volume_bytes=volume_bytes,
        tasks=test.tasks,
        nodes=test.nodes,
        seconds=seconds,
        cached=test.is_cached(operation),
        direct=test.direct,
    )


def _moved(nominal_bytes: float, bytes_s: float, seconds: float) -> tuple[float, float]:
    """Return the bytes that were moved, and in how many seconds, so that they give IOR's rate.

    A run that a deadline ended, or that shared a file, moves less than was asked for; its rate knows.
    """
    moved_bytes = bytes_s * seconds
    if not moved_bytes > 0:
        return (nominal_bytes if bytes_s > 0 else 0.0), 0.0
    tolerance = TOLERANCE + STEP_S / seconds
    volume_bytes = nominal_bytes if abs(moved_bytes / nominal_bytes - 1) <= tolerance else moved_bytes
    return volume_bytes, volume_bytes / bytes_s


def _finite(node: Node, high: float) -> float:
    """Return a number, 0 for the text ``inf`` or ``nan`` that IOR writes of a run that took no time."""
    if isinstance(node.content, str) and node.content.strip("-").lower() in ("inf", "nan"):
        return 0.0
    return node.number(0, high)
