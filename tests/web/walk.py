"""Every route of the application, and a request for each of them that is made up of what a store holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, urlencode

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel


@dataclass(frozen=True)
class Sent:
    """A request for a route."""

    route: str
    method: str
    address: str
    body: dict[str, Any] | None = None

    @property
    def sending(self) -> dict[str, Any]:
        """What a client sends with it."""
        return {} if self.body is None else {"json": self.body}


@dataclass(frozen=True)
class Names:
    """What stands in the place of a route's parameters."""

    workflow: str
    model_id: str
    recommendation_id: str
    dag_id: str
    run_id: str
    task_id: str

    def value(self, route: str, parameter: str, annotation: Any) -> Any:
        """Return what stands for a parameter; a new one must be told here what it means."""
        if parameter == "name":
            return "qosflow.css" if route.startswith("/static") else self.workflow
        if parameter in ("left", "right"):
            return self.model_id
        if parameter in self.__dict__:
            return self.__dict__[parameter]
        if annotation is int:
            return 1
        if get_origin(annotation) is Literal:
            return get_args(annotation)[-1]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return {
                name: self.value(route, name, one.annotation)
                for name, one in annotation.model_fields.items()
                if one.is_required()
            }
        raise AssertionError(f"{route}: say in tests/web/walk.py what stands for {parameter!r}")


def requests(app: FastAPI, names: Names) -> Iterator[Sent]:
    """Yield a request for every route and method."""
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is no route that a login can be asked for"
        for method in sorted(route.methods):
            yield _request(route, method, names)


def _request(route: APIRoute, method: str, names: Names) -> Sent:
    path = route.path
    for parameter in route.dependant.path_params:
        value = quote(str(names.value(route.path, parameter.name, parameter.field_info.annotation)), safe="")
        path = path.replace(f"{{{parameter.name}}}", value).replace(f"{{{parameter.name}:path}}", value)
    query: dict[str, Any] = {}
    for parameter in route.dependant.query_params:
        annotation = parameter.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            query |= names.value(route.path, parameter.name, annotation)
        elif parameter.field_info.is_required():
            query[parameter.name] = names.value(route.path, parameter.name, annotation)
    body = None
    if route.body_field is not None:
        body = names.value(route.path, route.body_field.name, route.body_field.field_info.annotation)
    address = f"{path}?{urlencode(query)}" if query else path
    return Sent(route.path, method, address, body)
