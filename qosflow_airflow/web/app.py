"""QoSFlow's part of Airflow's web server. Nothing of it can be seen without a login."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from qosflow_airflow.exceptions import QoSFlowError
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from qosflow_airflow.store.base import Store
from qosflow_airflow.web.access import ForbiddenError
from qosflow_airflow.web.api import PREFIX, build_api
from qosflow_airflow.web.comparisons import build_comparisons
from qosflow_airflow.web.known_models import KnownModels
from qosflow_airflow.web.openapi import build_document_route
from qosflow_airflow.web.problems import FORBIDDEN, ProblemView, mistakes, problem_of, refused
from qosflow_airflow.web.routes import build_router, page

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
        try:
            requires_access_dag(method="GET", param_dag_id=dag_id)(self._request, self._user)
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
    known = KnownModels()
    app.include_router(build_document_route())
    app.include_router(build_api(store, AirflowDagReader, known))
    app.include_router(build_comparisons(store, known))
    app.include_router(build_router(store, AirflowDagReader, known))
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
