"""Finished runs of workflows and the models to hold them against, as an answer reads them."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from qosflow_airflow.core.model import Model
from qosflow_airflow.exceptions import QoSFlowError, StoreUnavailableError
from qosflow_airflow.store.base import Store

if TYPE_CHECKING:
    from qosflow_airflow.store.finished_runs import RunRecord


class PastRuns:
    """What a store holds of finished runs, and the newest models of their workflows: each is read once.

    ``models`` are newest ones that are known already.
    """

    def __init__(self, store: Store, *models: Model) -> None:
        self._store = store
        self._models: dict[str, Model | None] = {model.workflow.name: model for model in models}
        self._runs: dict[str, tuple[int, tuple[RunRecord, ...]]] = {}

    @cached_property
    def workflows(self) -> tuple[str, ...]:
        """The names of all workflows, in order."""
        return tuple(one.name for one in self._store.list_workflows())

    def runs(self, workflow: str, limit: int) -> tuple[RunRecord, ...]:
        """Return the newest runs of a workflow, newest first."""
        asked, found = self._runs.get(workflow, (0, ()))
        if asked < limit and len(found) == asked:  # there may be more of them
            found = self._store.runs(workflow, limit=limit)
            self._runs[workflow] = limit, found
        return found[:limit]

    def model(self, workflow: str) -> Model | None:
        """Return the newest model of a workflow; ``None`` where there is none that can be read.

        It may lack its regions: they do not matter to what runs teach, and are the larger part.
        """
        if workflow not in self._models:
            self._models[workflow] = self._newest(workflow)
        return self._models[workflow]

    def _newest(self, workflow: str) -> Model | None:
        try:
            version = self._store.newest_model(workflow)
            return Model.from_json(json.loads(self._store.model_part(version.model_id, "model")))
        except StoreUnavailableError:
            raise
        except (QoSFlowError, AttributeError, KeyError, TypeError, ValueError):
            # Another workflow's model, which an older version may have written, is no reason to fail.
            return None
