"""QoSFlow's part of Airflow's web server. Nothing of it can be seen without a login."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, Response

from qosflow_airflow.exceptions import NotFoundError, QoSFlowError, StoreUnavailableError
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from qosflow_airflow.store.base import Store
from qosflow_airflow.web.routes import ForbiddenError, build_router, page

log = logging.getLogger(__name__)

HEADERS = {
    # Pages run no script and load nothing; Airflow shows them in a frame of its own.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
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
    app.include_router(build_router(store, AirflowDagReader))
    app.add_exception_handler(QoSFlowError, _show_error)
    app.add_exception_handler(ForbiddenError, _show_refusal)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    return app


def _show_error(_: Request, error: Exception) -> Response:
    if isinstance(error, NotFoundError):
        return page("error.html", 404, title="Not found", message=str(error))
    # Where the database is and what it said is for the log, not for everyone who may log in.
    log.error("A page of QoSFlow failed", exc_info=error)
    if isinstance(error, StoreUnavailableError):
        message = "The QoSFlow database cannot be reached. The web server's log says why."
        return page("error.html", 503, title="No database", message=message)
    message = "The page cannot be shown. The web server's log says why."
    return page("error.html", 500, title="Something is wrong", message=message)


def _show_refusal(_: Request, __: Exception) -> Response:
    message = "You may not read the Dag that this recommendation was made for."
    return page("error.html", 403, title="Forbidden", message=message)
