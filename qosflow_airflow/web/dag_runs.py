"""Starting a run of a Dag with what was asked, by the rights of whoever asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, NamedTuple, Protocol
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Request
from fastapi.params import Depends as Dependency
from starlette.exceptions import HTTPException

from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.exceptions import NotFoundError, RequestError
from qosflow_airflow.store.base import Store
from qosflow_airflow.web.access import check_name
from qosflow_airflow.web.api import PREFIX, REFUSALS
from qosflow_airflow.web.api_types import DagOut, Dags, NewRun, NewRunOut
from qosflow_airflow.web.what_if import asked_for

MAX_DAGS = 20
"""How many Dags of a workflow are offered."""


class StartableDag(NamedTuple):
    """A Dag that the user may trigger; runs of one that ``is_paused`` wait until it is not."""

    dag_id: str
    is_paused: bool


class DagStarter(Protocol):
    """A user who has logged in, and the Dags of which this user may start runs."""

    def startable(self, dag_ids: Sequence[str]) -> list[StartableDag]:
        """Return those of the Dags that are there and that the user may trigger."""

    def declared(self, dag_id: str) -> Mapping[str, Any]:
        """Return the params of a Dag with their defaults; raise where there is no such Dag."""

    def start(self, dag_id: str, params: Mapping[str, Any]) -> str:
        """Start a run with these params, the others by default, and return its ``run_id``.

        Raises
        ------
        RequestError
            When a value is none that the Dag takes.
        ConflictError
            When no run of the Dag can be started now.
        """


def build_dag_runs(
    open_store: Callable[[], Store], starter_of: Callable[..., DagStarter], guards: Sequence[Dependency]
) -> APIRouter:
    """Return the routes; ``guards`` refuse who may not trigger the Dag that ``dag_id`` of the path names."""
    router = APIRouter(
        prefix=PREFIX, responses=REFUSALS, generate_unique_id_function=lambda route: route.name
    )
    starter_dependency = Depends(starter_of)

    @router.get("/workflows/{name:path}/dags")
    def dags(name: str, starter: DagStarter = starter_dependency) -> Dags:
        """The Dags that asked for a workflow and that the user may trigger, the last to ask first."""
        with open_store() as store:
            store.workflow(check_name(name, "workflow"))
            found = startable_dags(store, name, starter)
        return Dags(dags=[DagOut(dag_id=one.dag_id, is_paused=one.is_paused) for one in found])

    conflicts: dict[int | str, dict[str, Any]] = dict.fromkeys((409, 415), REFUSALS[404])

    @router.post(
        "/dags/{dag_id}/runs",
        status_code=201,
        dependencies=[Depends(needs_json), *guards],
        responses=conflicts,
    )
    def start_run(
        dag_id: str, new: NewRun, request: Request, starter: DagStarter = starter_dependency
    ) -> NewRunOut:
        """Start a run of a Dag with what was asked, by the user's right to trigger it."""
        asked = asked_for(QoSRequest.parse(new.question.model_dump()))
        with open_store() as store:
            if dag_id not in store.dag_ids(check_name(new.workflow, "workflow"), MAX_DAGS):
                raise NotFoundError(
                    f"The Dag {dag_id} never asked for the workflow {new.workflow}.",
                    cure="Trigger it once by hand, so that it is known.",
                )
        declared = starter.declared(dag_id)
        check_declared(asked, declared, dag_id)
        run_id = starter.start(dag_id, asked)
        own = {name: declared[name] for name in QUESTION if name in declared and name not in asked}
        outside = str(request.scope.get("root_path", "")).rpartition("/")[0]
        path = f"{outside}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
        return NewRunOut(dag_id=dag_id, run_id=run_id, params=asked, defaults=own, path=path)

    return router


def startable_dags(store: Store, workflow: str, starter: DagStarter) -> list[StartableDag]:
    """Return the Dags that asked for a workflow and that the user may trigger, the last to ask first."""
    return starter.startable(store.dag_ids(workflow, MAX_DAGS))


QUESTION = tuple(field.name for field in fields(QoSRequest))


def check_declared(asked: Mapping[str, Any], declared: Mapping[str, Any], dag_id: str) -> None:
    """Raise ``RequestError`` where something is asked for that the Dag would not hear of."""
    unheard = sorted(set(asked) - set(declared))
    if unheard:
        one = len(unheard) == 1
        raise RequestError(
            f"the Dag {dag_id} has no param{'' if one else 's'} {', '.join(unheard)}",
            cure=f"Ask without {'it' if one else 'them'}, or declare {'it' if one else 'them'} in the Dag.",
        )


def needs_json(content_type: Annotated[str | None, Header(include_in_schema=False)] = None) -> None:
    """Refuse what a page of another site could send without being asked first."""
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "The body must be JSON, and say so in its Content-Type.")
