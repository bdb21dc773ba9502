"""Pages of recommendations, and of the Dags, Dag runs and task instances that they were made for.

Airflow shows the latter three as tabs. Names come as a query: they may hold what a path cannot.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from qosflow_airflow.store.base import Store
from qosflow_airflow.web.access import DagReader, ForbiddenError, check_name
from qosflow_airflow.web.dag_page import LISTED, run_lines
from qosflow_airflow.web.recommendation_page import MAX_PLANS, recommendation_page
from qosflow_airflow.web.routes import page
from qosflow_airflow.web.task_page import task_view


def build_run_pages(open_store: Callable[[], Store], reader_of: Callable[..., DagReader]) -> APIRouter:
    """Return the pages, which read from a store and show what ``reader_of``, a dependency, lets them."""
    router = APIRouter(default_response_class=HTMLResponse)
    reader_dependency = Depends(reader_of)

    @router.get("/recommendations/{recommendation_id}")
    def recommendation(recommendation_id: str, reader: DagReader = reader_dependency) -> HTMLResponse:
        with open_store() as store:
            shown = recommendation_page(store, reader, recommendation_id)
        return page("recommendation.html", root="../", page=shown)

    @router.get("/dag")
    def dag(dag_id: str, reader: DagReader = reader_dependency) -> HTMLResponse:
        _check_dag(reader, dag_id)
        with open_store() as store:
            runs = store.runs(limit=LISTED, dag_id=dag_id, with_unfinished=True)
        return page("dag.html", root="", dag_id=dag_id, view=run_lines(runs), listed=LISTED)

    @router.get("/run")
    def run(dag_id: str, run_id: str, reader: DagReader = reader_dependency) -> HTMLResponse:
        _check_dag(reader, dag_id)
        check_name(run_id, "Dag run", 1000)
        with open_store() as store:
            runs = store.runs(limit=MAX_PLANS, dag_id=dag_id, run_id=run_id, with_unfinished=True)
            only = runs[0].recommendation_id if len(runs) == 1 else None
            shown = None if only is None else recommendation_page(store, reader, only)
        if shown is not None:
            return page("recommendation.html", root="", page=shown)
        return page("run.html", root="", dag_id=dag_id, run_id=run_id, view=run_lines(runs))

    @router.get("/task-instance")
    def task_instance(
        dag_id: str, run_id: str, task_id: str, map_index: str = "", reader: DagReader = reader_dependency
    ) -> HTMLResponse:
        _check_dag(reader, dag_id)
        index = _index(map_index)
        with open_store() as store:
            view = task_view(store, dag_id, run_id, task_id, index)
        return page(
            "task_instance.html",
            root="",
            view=view,
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            map_index=index,
        )

    return router


def _check_dag(reader: DagReader, dag_id: str) -> None:
    check_name(dag_id, "Dag", 1000)
    if not reader.may_read(dag_id):
        raise ForbiddenError


def _index(text: str) -> int | None:
    """Return a map index; ``None`` for what is none, as Airflow leaves its placeholder for other tasks."""
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 10 else None
