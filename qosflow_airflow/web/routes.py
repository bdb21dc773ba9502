"""The pages; who may see them is decided in :mod:`qosflow_airflow.web.app`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.store.base import Store
from qosflow_airflow.web.insights import overview, recommendation_view

LISTED = 50
"""How many models and recommendations the first page lists."""

TEMPLATES = Environment(
    loader=PackageLoader("qosflow_airflow.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


class ForbiddenError(Exception):
    """The user may not read the Dag that a page is about."""


class DagReader(Protocol):
    """A user who has logged in, and the Dags that this user may read."""

    def may_read(self, dag_id: str) -> bool:
        """Return whether the user may read a Dag."""


def page(template: str, status: int = 200, **values: object) -> HTMLResponse:
    """Return a rendered template."""
    return HTMLResponse(TEMPLATES.get_template(template).render(**values), status_code=status)


def stored_workflow(store: Store, model_id: str) -> Workflow:
    """Return the workflow of a model, without the arrays that the rest of the model is made of."""
    return Workflow.from_json(json.loads(store.model_part(model_id, "model"))["workflow"])


def build_router(open_store: Callable[[], Store], reader_of: Callable[..., DagReader]) -> APIRouter:
    """Return the pages, which read from a store and show what ``reader_of``, a dependency, lets them."""
    router = APIRouter(default_response_class=HTMLResponse)
    reader_dependency = Depends(reader_of)

    @router.get("/")
    def index(reader: DagReader = reader_dependency) -> HTMLResponse:
        with open_store() as store:
            models = store.models(limit=LISTED)
            records = store.recommendations(limit=LISTED)
        dags = {record.dag_id for record in records if record.dag_id is not None}
        readable = {dag_id for dag_id in dags if reader.may_read(dag_id)}
        shown = [record for record in records if record.dag_id is None or record.dag_id in readable]
        return page("index.html", view=overview(models, shown))

    @router.get("/recommendations/{recommendation_id}")
    def recommendation(recommendation_id: str, reader: DagReader = reader_dependency) -> HTMLResponse:
        with open_store() as store:
            record = store.recommendation(recommendation_id)
            if record.dag_id is not None and not reader.may_read(record.dag_id):
                raise ForbiddenError
            model = store.model(record.model_id)
            workflow = stored_workflow(store, record.model_id)
            outcomes = store.outcomes(record.recommendation_id)
        return page("recommendation.html", view=recommendation_view(record, model, workflow, outcomes))

    return router
