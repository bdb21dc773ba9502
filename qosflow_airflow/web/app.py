"""QoSFlow's part of Airflow's web server. Nothing of it can be seen without a login."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.dagbag import create_dag_bag, get_latest_version_of_dag
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException as StarletteHTTPException

from qosflow_airflow.exceptions import QoSFlowError, RequestError
from qosflow_airflow.hooks import settings
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from qosflow_airflow.store.base import Store
from qosflow_airflow.web.access import ForbiddenError
from qosflow_airflow.web.api import PREFIX, build_api
from qosflow_airflow.web.comparisons import build_comparisons
from qosflow_airflow.web.dag_runs import StartableDag, build_dag_runs
from qosflow_airflow.web.figure_files import build_figure_files
from qosflow_airflow.web.known_models import KnownModels
from qosflow_airflow.web.openapi import build_document_route
from qosflow_airflow.web.problems import FORBIDDEN, ConflictError, ProblemView, mistakes, problem_of, refused
from qosflow_airflow.web.routes import build_router, page
from qosflow_airflow.web.run_pages import build_run_pages

log = logging.getLogger(__name__)

HEADERS = {
    # Scripts and styles come from files of this server only; Airflow shows pages in a frame of its own.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AirflowDagReader:
    """The user of a request, and what Airflow's auth manager lets this user read."""

    def __init__(self, request: Request, user: GetUserDep) -> None:
        self._request = request
        self._user = user

    def may_read(self, dag_id: str) -> bool:
        """Return whether the user may read a Dag."""
        return _allows(requires_access_dag(method="GET", param_dag_id=dag_id), self._request, self._user)


class AirflowDagStarter:
    """The user of a request, and the Dags of which Airflow lets this user start runs."""

    def __init__(self, request: Request, user: GetUserDep) -> None:
        self._request = request
        self._user = user

    def startable(self, dag_ids: Sequence[str]) -> list[StartableDag]:
        """Return those of the Dags that are there and that the user may trigger."""
        there = select(DagModel.dag_id, DagModel.is_paused).where(
            DagModel.dag_id.in_(dag_ids), ~DagModel.is_stale
        )
        with create_session(scoped=False) as session:
            paused = {dag_id: bool(is_paused) for dag_id, is_paused in session.execute(there)}
        known = (StartableDag(dag_id, paused[dag_id]) for dag_id in dag_ids if dag_id in paused)
        return [one for one in known if _allows(may_start(one.dag_id), self._request, self._user)]

    def declared(self, dag_id: str) -> Mapping[str, Any]:
        """Return the params of a Dag with their defaults."""
        with create_session(scoped=False) as session:
            return dict(self._dag(dag_id, session).params)

    def start(self, dag_id: str, params: Mapping[str, Any]) -> str:
        """Start a run as Airflow's own route does, with all that it checks and notes."""
        # Imported where it is used: only this needs it, and Airflow's releases move such parts.
        from airflow.api_fastapi.core_api.datamodels.dag_run import TriggerDAGRunPostBody
        from airflow.api_fastapi.core_api.routes.public.dag_run import trigger_dag_run
        from airflow.exceptions import ParamValidationError

        body = TriggerDAGRunPostBody(logical_date=None, conf=dict(params))
        with create_session(scoped=False) as session:
            try:
                self._dag(dag_id, session).params.deep_merge(params).validate()
            except ParamValidationError as error:
                raise RequestError(
                    f"the Dag {dag_id} does not take this: {str(error).splitlines()[0]}",
                    cure="Ask for something else, or change the schema of its params.",
                ) from None
            try:
                run: Any = trigger_dag_run(  # typed as what its route sends, and it returns the row
                    dag_id=dag_id,
                    body=body,
                    dag_bag=_dag_bag(),
                    user=self._user,
                    session=session,
                    request=self._request,
                )
            except HTTPException as refusal:
                if refusal.status_code != 400:
                    raise
                raise ConflictError(f"Airflow starts no run: {refusal.detail}") from None
            return str(run.run_id)

    def _dag(self, dag_id: str, session: Session) -> Any:
        return get_latest_version_of_dag(_dag_bag(), dag_id, session)


@cache
def _dag_bag() -> Any:
    """Return the Dags as Airflow keeps them for its web server."""
    return create_dag_bag()


def may_start(dag_id: str | None = None) -> Callable[[Request, GetUserDep], None]:
    """Return Airflow's own check of whether a Dag may be triggered, by default the one that a path names."""
    return requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN, param_dag_id=dag_id)


def _allows(check: Callable[[Request, GetUserDep], None], request: Request, user: GetUserDep) -> bool:
    try:
        check(request, user)
    except HTTPException as refusal:
        if refusal.status_code != 403:
            raise
        return False
    return True


def open_store() -> Store:
    """Return the store that ``[qosflow] conn_id`` leads to."""
    return QoSFlowHook().get_store()


def create_app(store: Callable[[], Store] = open_store) -> FastAPI:
    """Return the application, to be mounted at ``/qosflow``."""
    app = FastAPI(
        title="QoSFlow", dependencies=[Depends(get_user)], docs_url=None, redoc_url=None, openapi_url=None
    )
    known = KnownModels(layers=settings.layers)
    app.include_router(build_document_route())
    app.include_router(build_api(store, AirflowDagReader, known))
    app.include_router(build_figure_files(store, known))
    app.include_router(build_comparisons(store, known))
    noted = Depends(action_logging(event="trigger_dag_run"))
    app.include_router(build_dag_runs(store, AirflowDagStarter, [Depends(may_start()), noted]))
    app.include_router(build_router(store, AirflowDagReader, AirflowDagStarter, known))
    app.include_router(build_run_pages(store, AirflowDagReader))
    app.add_exception_handler(QoSFlowError, _show_error)
    app.add_exception_handler(ForbiddenError, _show_refusal)
    app.add_exception_handler(RequestValidationError, _show_mistake)
    app.add_exception_handler(StarletteHTTPException, _show_status)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    return app


def _show_error(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status >= 500:
        # Where the database is and what it said is for the log, not for everyone who may log in.
        log.error("A page of QoSFlow failed", exc_info=error)
    return _show(request, problem)


def _show_refusal(request: Request, _: Exception) -> Response:
    return _show(request, FORBIDDEN)


def _show_mistake(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _show(request, mistakes(error.errors()))


def _show_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    response = _show(request, refused(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


def _show(request: Request, problem: ProblemView) -> Response:
    if f"{PREFIX}/" in request.url.path:
        return JSONResponse(problem.to_json(), problem.status)
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    root = "../" * (path.count("/") - 1)
    return page("error.html", problem.status, root=root, title=problem.title, message=problem.text)
