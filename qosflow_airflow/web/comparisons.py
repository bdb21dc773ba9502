"""Two models of a workflow, or two node counts of one, beside each other: the page and its JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from qosflow_airflow.core.comparison import Comparison, at_scale, compare
from qosflow_airflow.core.comparison_words import difference_in_words
from qosflow_airflow.exceptions import NotFoundError, RequestError
from qosflow_airflow.store.base import ModelVersion, Store
from qosflow_airflow.web.api import PREFIX, REFUSALS, model_version
from qosflow_airflow.web.api_types import Compared, ComparisonOut
from qosflow_airflow.web.comparison_page import comparison_view, places
from qosflow_airflow.web.known_models import KnownModel, KnownModels
from qosflow_airflow.web.routes import LISTED, page


def build_comparisons(open_store: Callable[[], Store], known: KnownModels) -> APIRouter:
    """Return the page that compares models, and the route behind it."""
    router = APIRouter()

    @router.get(f"{PREFIX}/compare", responses=REFUSALS, operation_id="compare")
    def as_json(asked: Annotated[Compared, Query()]) -> ComparisonOut:
        """What two models, or two node counts of one, answer to the same request, and what differs."""
        with open_store() as store:
            left, right, _ = _sides(store, known, asked)
        found = _compared(left, right, asked)
        where = places(left.version, right.version, found)
        words = [difference_in_words(stage, found, *where) for stage in found.stages]
        return ComparisonOut(
            left_model=model_version(left.version),
            right_model=model_version(right.version),
            comparison=found,
            words=[said for said in words if said],
        )

    @router.get("/compare", response_class=HTMLResponse)
    def as_page(asked: Annotated[Compared, Query()]) -> HTMLResponse:
        with open_store() as store:
            left, right, versions = _sides(store, known, asked)
        found = _compared(left, right, asked)
        return page("compare.html", root="", view=comparison_view(left, right, found, asked, versions))

    return router


def _sides(
    store: Store, known: KnownModels, asked: Compared
) -> tuple[KnownModel, KnownModel, Sequence[ModelVersion]]:
    """Return both models, and the newest versions of their workflow."""
    right = known.get(store, asked.right)
    versions = store.models(right.version.workflow, limit=LISTED)
    left = known.get(store, asked.left or _other(versions, right.version))
    if left.version.workflow != right.version.workflow:
        raise RequestError(
            f"the models are of two workflows, {left.version.workflow} and {right.version.workflow}",
            cure="Compare two models of one workflow.",
        )
    return left, right, versions


def _other(versions: Sequence[ModelVersion], than: ModelVersion) -> str:
    """Return the version before, or else the newest other one, or else the same."""
    before = [one.model_id for one in versions if one.version < than.version]
    others = [one.model_id for one in versions if one.model_id != than.model_id]
    return next(iter([*before, *others, than.model_id]))


def _compared(left: KnownModel, right: KnownModel, asked: Compared) -> Comparison:
    counts = (asked.nodes, asked.nodes if asked.right_nodes is None else asked.right_nodes)
    for side, nodes in zip((left, right), counts, strict=True):
        if nodes is not None and nodes not in side.model.nodes:
            known = ", ".join(map(str, side.model.nodes))
            raise NotFoundError(
                f"Version {side.version.version} has no node count {nodes}.", cure=f"Use one of {known}."
            )
    return compare(at_scale(left.model, counts[0]), at_scale(right.model, counts[1]), asked.request)
