"""Copies between storage tiers: before a stage runs, and of its final outputs afterwards.

On one machine, :class:`QoSStageInOperator` and :class:`QoSStageOutOperator` do all copies of a stage in one
task each: a task more costs Airflow about a second. :class:`QoSCopyOperator` does one copy and is mapped over
a recommendation's rows, where copies must run apart.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import BaseOperator

from qosflow_airflow.measure.folder_copy import Copied, Verify, copy_folder
from qosflow_airflow.operators.boundary import BeginsStage, Boundary, boundaries_of
from qosflow_airflow.operators.run_rows import PROMISE, Rows, pull_rows
from qosflow_airflow.operators.slack import say_slack
from qosflow_airflow.operators.stage import Fit, fit_of

if TYPE_CHECKING:
    from airflow.sdk import Context

RECORDS_OF_COPIES = "copies"
"""Subfolder of the records that holds those of copies: the records beside it are all of tasks."""

COPIES_AT_ONCE = 4

log = logging.getLogger(__name__)


class _StageCopiesOperator(BaseOperator):
    """Does the copies of one stage."""

    ui_color = "#e8f1ec"

    def __init__(
        self, *, recommend_task_id: str, stage: str, verify: Verify = "content", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.recommend_task_id = recommend_task_id
        self.stage = stage
        self.verify = verify

    def boundary(self, context: Context) -> Boundary:
        """Return where the stage begins, among where the others do."""
        boundaries = boundaries_of(self.get_dag(), self.recommend_task_id)
        return Boundary(context, self.recommend_task_id, self.stage, boundaries)


class QoSStageInOperator(BeginsStage, _StageCopiesOperator):
    """Brings a stage's inputs to its tier, where they are not there yet, and returns the rows of its tasks.

    Map the stage's tasks over what it returns: they run when their inputs are there. The stage's tier is
    tried before anything else; what happens where it cannot be used is in
    :mod:`~qosflow_airflow.operators.boundary`.

    :param recommend_task_id: the task that recommended.
    :param stage: the stage.
    :param verify: compare the ``content`` of every file with its source, or only the ``size``.
    """

    def execute(self, context: Context) -> Rows:
        """Try the tier, say how the run stands, copy, record, and return the rows of the stage's tasks."""
        run = self.boundary(context).begin()
        say_slack(context, run.get(PROMISE), self.stage)
        rows = pull_rows(context, self.recommend_task_id, "stage", self.stage, run)
        copy_rows(pull_rows(context, self.recommend_task_id, "stage_in", self.stage, run), self.verify)
        return [_ready(row) for row in rows]


class QoSStageOutOperator(_StageCopiesOperator):
    """Copies a stage's final outputs to the home tier, or is skipped where they lie there already.

    :param recommend_task_id: the task that recommended.
    :param stage: the stage.
    :param verify: compare the ``content`` of every file with its source, or only the ``size``.
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Copy, record, and return how much was moved."""
        rows = self.boundary(context).stage_out_rows()
        if not rows:
            raise AirflowSkipException("The outputs lie on the home tier already, or are not kept.")
        return [copied._asdict() for copied in copy_rows(rows, self.verify)]


@dataclass(frozen=True)
class LocalCopies:
    """Copies that tasks make on the machine that they run on.

    ``recommend`` is the task that recommended; ``verify`` compares the ``content`` of every file with its
    source, or only the ``size``.
    """

    recommend: BaseOperator
    verify: Verify = "content"

    @property
    def planned_by(self) -> BaseOperator:
        """The task that recommended."""
        return self.recommend

    def stage_in(self, stage: str) -> BaseOperator:
        """Return the task that brings inputs in and returns the rows."""
        return QoSStageInOperator(task_id="stage_in", stage=stage, **self._settings())

    def stage_out(self, stage: str) -> BaseOperator:
        """Return the task that brings final outputs home."""
        return QoSStageOutOperator(task_id="stage_out", stage=stage, **self._settings())

    def fit(self, operator: type[BaseOperator]) -> Fit:
        """Return how rows fit an operator that takes ``env`` or ``op_kwargs``."""
        return fit_of(operator)

    def partial(self, partial: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as they are."""
        return dict(partial)

    def _settings(self) -> dict[str, Any]:
        return {"recommend_task_id": self.recommend.task_id, "verify": self.verify}


class QoSCopyOperator(BaseOperator):
    """Copies a folder of files to another tier, whole or not at all.

    The parameters are the keys of a recommendation's rows, so that it is mapped over them:
    ``QoSCopyOperator.partial(task_id="merge_in").expand_kwargs(recommend.stage_in("merge"))``. Nothing is
    templated: no name is taken for a template. What was moved, and how long it took, is recorded as a JSON
    file in ``records``/copies. A second try leaves a complete destination as it is.

    :param source: the folder to copy.
    :param destination: the folder that holds the same files afterwards.
    :param stage: the stage that the copy is made for.
    :param data_of: the stage that wrote the files, or ``initial_data``; the stage itself for its outputs.
    :param source_tier: where ``source`` lies.
    :param tier: where ``destination`` lies.
    :param patterns: copy only files whose name matches one of these regular expressions; by default all.
    :param records: the folder in which the run leaves what it measured.
    :param verify: compare the ``content`` of every file with its source, or only the ``size``.
    """

    ui_color = "#e8f1ec"

    def __init__(
        self,
        *,
        source: str,
        destination: str,
        stage: str = "",
        data_of: str = "",
        source_tier: str = "",
        tier: str = "",
        patterns: Sequence[str] = (),
        records: str | None = None,
        verify: Verify = "content",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.stage = stage
        self.data_of = data_of
        self.source_tier = source_tier
        self.tier = tier
        self.patterns = patterns
        self.records = records
        self.verify = verify

    def execute(self, context: Context) -> dict[str, Any]:
        """Copy, record, and return how much was moved; errors are those of :func:`copy_row`."""
        row = {
            "source": self.source,
            "destination": self.destination,
            "stage": self.stage,
            "data_of": self.data_of,
            "source_tier": self.source_tier,
            "tier": self.tier,
            "patterns": self.patterns,
            "records": self.records,
        }
        return copy_row(row, self.verify)._asdict()


def _ready(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the moment from which its task only waits for Airflow, seconds since the epoch."""
    return {**row, "env": {**row["env"], "QOSFLOW_READY_S": f"{time.time():.3f}"}} if "env" in row else row


def copy_rows(rows: Rows, verify: Verify) -> list[Copied]:
    """Do several copies at once; errors are those of :func:`copy_row`."""
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        return list(pool.map(lambda row: copy_row(row, verify), rows))


def copy_row(row: Mapping[str, Any], verify: Verify) -> Copied:
    """Do the copy of one row, and record what was moved and how long it took.

    Raises
    ------
    AirflowFailException
        When the source or a pattern is wrong.
    AirflowException
        When a file cannot be read or written; the next try may do.
    """
    start_s = time.time()
    source, destination = row["source"], row["destination"]
    try:
        copied = copy_folder(Path(source), Path(destination), row["patterns"], verify)
    except (FileNotFoundError, ValueError) as error:
        raise AirflowFailException(str(error)) from error
    except OSError as error:
        raise AirflowException(
            f"{source} cannot be copied to {destination}: {error}. Free space or give access there, then "
            "try again."
        ) from error
    if row["records"] is not None:
        _record(row, copied, start_s)
    took = "were there already" if copied.copy_s is None else f"in {copied.copy_s:.3f} s"
    log.info(
        "%s files, %.1f MiB, from %s to %s %s", copied.files, copied.bytes / 2**20, source, destination, took
    )
    return copied


def _record(row: Mapping[str, Any], copied: Copied, start_s: float) -> None:
    """Write the record, whole or not at all; one that says how long the copy took stays."""
    path = Path(row["records"], RECORDS_OF_COPIES, f"{row['stage']}-{row['data_of']}.json")
    if copied.copy_s is None and path.exists():
        return
    record = {
        **{name: row[name] for name in ("stage", "data_of", "source_tier", "tier", "source", "destination")},
        **copied._asdict(),
        "start_s": start_s,
        "end_s": time.time(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
