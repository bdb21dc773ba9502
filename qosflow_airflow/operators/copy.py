"""Copies between storage tiers: before a stage runs, and of its final outputs afterwards."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from qosflow_airflow.operators.folder_copy import Copied, Verify, copy_folder

if TYPE_CHECKING:
    from airflow.sdk import Context

RECORDS_OF_COPIES = "copies"
"""Subfolder of the records that holds those of copies: the records beside it are all of tasks."""


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
        """Copy, record, and return how much was moved.

        Raises
        ------
        AirflowFailException
            When the source or a pattern is wrong.
        AirflowException
            When a file cannot be read or written; the next try may do.
        """
        start_s = time.time()
        copied = self._copy()
        if self.records is not None:
            self._record(Path(self.records, RECORDS_OF_COPIES), copied, start_s)
        took = "were there already" if copied.copy_s is None else f"in {copied.copy_s:.3f} s"
        size_mib = copied.bytes / 2**20
        self.log.info(
            "%s files, %.1f MiB, from %s to %s %s",
            copied.files,
            size_mib,
            self.source,
            self.destination,
            took,
        )
        return copied._asdict()

    def _copy(self) -> Copied:
        try:
            return copy_folder(Path(self.source), Path(self.destination), self.patterns, self.verify)
        except (FileNotFoundError, ValueError) as error:
            raise AirflowFailException(str(error)) from error
        except OSError as error:
            raise AirflowException(
                f"{self.source} cannot be copied to {self.destination}: {error}. Free space or give access "
                "there, then try again."
            ) from error

    def _record(self, folder: Path, copied: Copied, start_s: float) -> None:
        """Write the record, whole or not at all; one that says how long the copy took stays."""
        path = folder / f"{self.stage}-{self.data_of}.json"
        if copied.copy_s is None and path.exists():
            return
        record = {
            "stage": self.stage,
            "data_of": self.data_of,
            "source_tier": self.source_tier,
            "tier": self.tier,
            "source": self.source,
            "destination": self.destination,
            **copied._asdict(),
            "start_s": start_s,
            "end_s": time.time(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{path.name}.{uuid.uuid4().hex}.part"
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
