"""The JSON API as an OpenAPI document, for programs that make or check requests of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from qosflow_airflow.web.api import PREFIX

ABOUT = "What the pages of QoSFlow show, for programs. Everything needs a login to Airflow."


def build_document_route() -> APIRouter:
    """Return the route of the document, which is behind the same login as what it describes."""
    router = APIRouter(prefix=PREFIX)

    @router.get("/openapi.json", include_in_schema=False)
    def document(request: Request) -> dict[str, Any]:
        routes = [
            route
            for route in request.app.routes
            if isinstance(route, APIRoute) and route.path.startswith(f"{PREFIX}/")
        ]
        # Where the application is mounted is known from the request only.
        servers = [{"url": request.scope.get("root_path") or "/"}]
        return get_openapi(title="QoSFlow", version="v1", description=ABOUT, routes=routes, servers=servers)

    return router
