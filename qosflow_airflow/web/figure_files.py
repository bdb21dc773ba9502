"""The numbers of a figure as a file that spreadsheets and programs read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response

from qosflow_airflow.exceptions import NotFoundError
from qosflow_airflow.store.base import Store
from qosflow_airflow.web.api import PREFIX, REFUSALS, figures_out
from qosflow_airflow.web.figure_tables import table_of
from qosflow_airflow.web.known_models import KnownModels

Kind = Literal["regions", "costs", "shift", "signature", "totals"]
CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "Rows with a head"}
}


def build_figure_files(open_store: Callable[[], Store], known: KnownModels) -> APIRouter:
    """Return the route of the files."""
    router = APIRouter(prefix=PREFIX, responses=REFUSALS)

    @router.get(
        "/models/{model_id}/figures.csv",
        response_class=Response,
        responses=CSV,
        operation_id="figure_file",
    )
    def figure_file(model_id: str, figure: Kind, nodes: int, region: int = 0) -> Response:
        """The numbers of one figure of a model at a node count, as CSV."""
        with open_store() as store:
            data = getattr(figures_out(known.get(store, model_id), nodes, region), figure)
        if data is None:
            raise NotFoundError(f"On {nodes} nodes there is nothing to draw as {figure}.")
        name = f"{figure}-{nodes}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(table_of(data).to_csv(), media_type="text/csv; charset=utf-8", headers=headers)

    return router
