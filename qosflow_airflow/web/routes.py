"""The pages; who may see them is decided in :mod:`qosflow_airflow.web.app`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from qosflow_airflow.exceptions import NotFoundError, QoSFlowError, StoreError
from qosflow_airflow.store.base import Store
from qosflow_airflow.web.access import DagReader, readable
from qosflow_airflow.web.api import list_workflows, model_version
from qosflow_airflow.web.dag_runs import DagStarter, startable_dags
from qosflow_airflow.web.insights import age, moment
from qosflow_airflow.web.known_models import KnownModel, KnownModels
from qosflow_airflow.web.model_page import ScaleView, scale_view
from qosflow_airflow.web.problems import problem_of
from qosflow_airflow.web.report_view import report_view
from qosflow_airflow.web.what_if import Fields, answer_view, form_view, parse_form
from qosflow_airflow.web.workflow_list import overview

LISTED = 50
"""How many recommendations the first page lists."""
STATIC = {
    "qosflow.css": "text/css",
    "theme.js": "text/javascript",
    "what-if.js": "text/javascript",
    "trigger.js": "text/javascript",
}
"""The files that pages load. They are read by everyone who may log in, and tell nothing."""

TEMPLATES = Environment(
    loader=PackageLoader("qosflow_airflow.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def page(template: str, status: int = 200, **values: object) -> HTMLResponse:
    """Return a rendered template."""
    # Where a page is cannot be told from where its template lies: links lead up from the page's own address.
    return HTMLResponse(TEMPLATES.get_template(template).render(**values), status_code=status)


def build_router(
    open_store: Callable[[], Store],
    reader_of: Callable[..., DagReader],
    starter_of: Callable[..., DagStarter],
    known: KnownModels,
) -> APIRouter:
    """Return the pages, which read from a store and show what ``reader_of``, a dependency, lets them.

    ``starter_of``, a dependency too, tells of which Dags the user may start runs.
    """
    router = APIRouter(default_response_class=HTMLResponse)
    reader_dependency, starter_dependency = Depends(reader_of), Depends(starter_of)

    @router.get("/")
    def index(reader: DagReader = reader_dependency) -> HTMLResponse:
        with open_store() as store:
            workflows = list_workflows(store, reader)
            records = store.recommendations(limit=LISTED)
        shown = readable(reader, records)
        return page("index.html", root="", view=overview(workflows, shown, datetime.now(UTC)))

    @router.get("/models/{model_id}")
    def model(model_id: str, request: Request, starter: DagStarter = starter_dependency) -> HTMLResponse:
        fields = request.query_params.multi_items()
        with open_store() as store:
            found = known.get(store, model_id)
            answer = _answered(found, store, fields)
            cards = store.report_cards(model_id, limit=1)
            versions = store.models(found.version.workflow, limit=LISTED)
            # A Dag asks the newest model, so that another one's page must not offer to trigger it.
            is_newest = versions[0].model_id == found.version.model_id
            dags = startable_dags(store, found.version.workflow, starter) if is_newest else []
        return page(
            "model.html",
            root="../",
            version=model_version(found.version),
            when=moment(found.version.created_at),
            age=age(datetime.now(UTC) - found.version.created_at),
            versions=versions,
            dags=dags,
            form=form_view(fields, found.model),
            scale=_scale(found, dict(fields)),
            rules=found.model.rules.name,
            card=report_view(cards[0] if cards else None),
            **answer,
        )

    @router.get("/models/{model_id}/answer")
    def answer(model_id: str, request: Request) -> HTMLResponse:
        with open_store() as store:
            found = known.get(store, model_id)
            answer = _answered(found, store, request.query_params.multi_items())
        return page("answer.html", **answer)

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise NotFoundError("There is no such file.")
        content = files("qosflow_airflow.web").joinpath("static", name).read_bytes()
        return Response(content, media_type=STATIC[name])

    return router


def _scale(found: KnownModel, query: dict[str, str]) -> ScaleView | None:
    """Return the node count that an address names, or the first: a wrong name counts as none."""
    if not found.model.scales:
        return None
    nodes, region = (_whole(query.get(name)) for name in ("nodes", "region"))
    nodes = nodes if nodes in found.model.nodes else found.model.nodes[0]
    regions = found.model.scale(nodes).regions
    known = 0 if regions is None else regions.count
    return scale_view(found, nodes, region if region is not None and 0 <= region < known else 0)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 10 else None


def _answered(found: KnownModel, store: Store, fields: Fields) -> dict[str, Any]:
    """Return the answer to a form, or what is wrong with it; without a form, the answer to no constraint."""
    try:
        request = parse_form(fields, found.model)
        view = answer_view(found.answer(store, request), request, found.model)
    except StoreError:
        raise
    except QoSFlowError as error:
        return {"answer": None, "problem": problem_of(error).text}
    return {"answer": view, "problem": None, "model_id": found.version.model_id}
