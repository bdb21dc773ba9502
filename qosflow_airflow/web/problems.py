"""What is said when something is wrong: a status, and what may be told to everyone who may log in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qosflow_airflow.exceptions import NotFoundError, QoSFlowError, StoreError, StoreUnavailableError


class ConflictError(QoSFlowError):
    """What is asked for cannot be done in the state that things are in."""


class ProblemView(NamedTuple):
    """A problem: status of HTTP, heading, kind of error, message and cure."""

    status: int
    title: str
    kind: str
    message: str
    cure: str | None = None

    @property
    def text(self) -> str:
        """Message and cure."""
        return str(QoSFlowError(self.message, cure=self.cure))

    def to_json(self) -> dict[str, Any]:
        """Return the body that the API answers with."""
        return {"error": {"kind": self.kind, "message": self.message, "cure": self.cure}}


FORBIDDEN = ProblemView(
    403,
    "Forbidden",
    "ForbiddenError",
    "You may not read the Dag that this is about.",
    "Ask for the right to read the Dag.",
)

REFUSED = {
    401: ("LoginError", "Log in to Airflow, or send a token."),
    403: ("ForbiddenError", "Ask for the right to do this."),
    404: ("NotFoundError", None),
}
"""Kinds of refusals, and what helps, by status."""


def problem_of(error: Exception) -> ProblemView:
    """Return what is said of an error: what the user can cure in full, of the server's own little."""
    kind = type(error).__name__
    if isinstance(error, NotFoundError):
        return ProblemView(404, "Not found", kind, clean(error.message), error.cure)
    if isinstance(error, StoreUnavailableError):
        message = "The QoSFlow database cannot be reached. The web server's log says why."
        return ProblemView(503, "No database", kind, message)
    if isinstance(error, QoSFlowError) and not isinstance(error, StoreError):
        cure = None if error.cure is None else clean(error.cure)
        status = 409 if isinstance(error, ConflictError) else 422
        return ProblemView(status, "This cannot be asked", kind, clean(error.message), cure)
    return ProblemView(
        500, "Something is wrong", kind, "The page cannot be shown. The web server's log says why."
    )


def refused(status: int, said: str) -> ProblemView:
    """Return what is said where Airflow or the web framework refuses, in the words of that refusal."""
    kind, cure = REFUSED.get(status, ("RequestError", None))
    return ProblemView(status, "This cannot be shown", kind, clean(said), cure)


def mistakes(found: Sequence[Mapping[str, Any]]) -> ProblemView:
    """Return what is said of values that have the wrong form, from what pydantic found."""
    said = [f"{'.'.join(map(str, one['loc'][1:])) or one['loc'][0]}: {one['msg']}" for one in found[:5]]
    return ProblemView(
        422,
        "This cannot be asked",
        "RequestError",
        clean("; ".join(said)),
        "See the fields in docs/api.md.",
    )


def clean(text: str) -> str:
    """Return text that any encoding of Unicode can write: what is no character becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
