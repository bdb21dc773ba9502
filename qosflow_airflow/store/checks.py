"""What every store refuses, said once so that all say the same."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, get_args

from qosflow_airflow.exceptions import NotFoundError, StoreError
from qosflow_airflow.store.base import (
    MAX_PART_BYTES,
    MAX_ROWS,
    ModelVersion,
    PartKey,
    RecommendationRecord,
    RecommendationStatus,
)
from qosflow_airflow.store.payload import checked_text, decode, encode

if TYPE_CHECKING:
    from qosflow_airflow.store.finished_runs import Observation

MAX_PATH_CHARS = 4096
MAX_DESCRIPTION_CHARS = 10_000
MAX_AIRFLOW_ID_CHARS = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")

_CURES = {
    "build": "Run the pipeline again: builds are purged after a while.",
    "model": "`qosflow models` lists the models there are.",
    "recommendation": "Take the identifier from the task that made the recommendation.",
}


def checked_id(value: object, entity: str) -> str:
    """Return a UUID in its usual spelling; text that is none names no ``entity``, so it is not found."""
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else _raise_not_found(entity, value)
    except ValueError:
        return _raise_not_found(entity, value)


def no_such(entity: str, identifier: object) -> NotFoundError:
    """Return the error for a build, model or recommendation that is not there."""
    return NotFoundError(f"There is no {entity} {str(identifier)[:80]!r}.", cure=_CURES[entity])


def no_such_workflow(name: str) -> NotFoundError:
    """Return the error for a workflow that is not registered."""
    return NotFoundError(
        f"No workflow {name!r} is registered.", cure="Build it first: `qosflow build BUNDLE --store`."
    )


def no_model_yet(workflow: str) -> NotFoundError:
    """Return the error for a registered workflow that has no model."""
    return NotFoundError(
        f"Workflow {workflow!r} has no model yet.",
        cure="Run the pipeline Dag for it, or `qosflow build BUNDLE --store`.",
    )


def no_such_part(entity: str, identifier: str, key: PartKey) -> NotFoundError:
    """Return the error for a part that a build or model does not have."""
    return NotFoundError(
        f"{entity.capitalize()} {identifier} has no part {key}.", cure="Run the pipeline again."
    )


def already_published(build_id: str, model_id: str) -> StoreError:
    """Return the error for writing to a build that became a model."""
    return StoreError(
        f"Build {build_id} is published as model {model_id} and cannot change.", cure="Start a new build."
    )


def already_recommended(recommendation_id: str) -> StoreError:
    """Return the error for another recommendation under an identifier that is taken."""
    return StoreError(
        f"Another recommendation {recommendation_id} is stored, and it cannot change.",
        cure="Give each recommendation an identifier of its own.",
    )


def same_workflow(record: RecommendationRecord, model: ModelVersion) -> None:
    """Raise :class:`StoreError` when a recommendation names another workflow than its model's."""
    if record.workflow != model.workflow:
        raise StoreError(
            f"The recommendation is for workflow {record.workflow!r}, its model is of {model.workflow!r}.",
            cure="Give both of one workflow.",
        )


def checked_part_key(kind: object, scale: object) -> PartKey:
    """Return the key of a part, or raise :class:`StoreError`."""
    return PartKey(
        checked_text(kind, "the kind of a part"),
        None if scale is None else checked_text(scale, "the scale of a part"),
    )


def checked_part_keys(kinds: Sequence[tuple[str, str | None]]) -> tuple[PartKey, ...]:
    """Return the distinct keys of the parts that a model keeps, at least one, in a fixed order."""
    keys = {checked_part_key(kind, scale) for kind, scale in kinds}
    if not keys:
        raise StoreError("A model needs at least one part.", cure="Name the parts to keep.")
    return tuple(sorted(keys, key=lambda key: (key.kind, key.scale or "")))


def checked_content(content: object) -> bytes:
    """Return the content of a part, or raise :class:`StoreError`."""
    if not isinstance(content, bytes):
        raise StoreError(f"The content of a part is {type(content).__name__}.", cure="Give bytes.")
    if len(content) > MAX_PART_BYTES:
        raise StoreError(
            f"A part of {len(content):,} bytes is larger than {MAX_PART_BYTES:,}.",
            cure="Compress it, or split it by scale.",
        )
    return content


def checked_inputs(inputs: Mapping[str, str]) -> str:
    """Return, as JSON text, the SHA-256 of each input file, or raise :class:`StoreError`."""
    text = encode(inputs, "inputs")
    for file, digest in decode(text).items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise StoreError(
                f"inputs[{file!r}] is no SHA-256.", cure="Give 64 lower-case hexadecimal digits."
            )
    return text


def known_ids(identifiers: Collection[str]) -> dict[str, str]:
    """Return the identifiers that a recommendation could have, as they are kept, by how they were given."""
    if len(identifiers) > MAX_ROWS:
        raise StoreError(f"{len(identifiers)} identifiers are given.", cure=f"Give at most {MAX_ROWS}.")
    known = {}
    for identifier in identifiers:
        with suppress(NotFoundError):
            known[identifier] = checked_id(identifier, "recommendation")
    return known


def check_airflow_ids(ids: Mapping[str, object]) -> None:
    """Refuse what Airflow gives no Dag, run or task as its name; ``ids`` are by what they name."""
    for field, text in ids.items():
        checked_text(text, field, MAX_AIRFLOW_ID_CHARS)


def checked_of(workflow: str | None, dag_id: str | None, run_id: str | None) -> dict[str, str | None]:
    """Return of what rows are asked for, ``None`` where it does not matter."""
    if workflow is not None:
        checked_text(workflow, "the name of a workflow")
    ids = {"dag_id": dag_id, "run_id": run_id}
    check_airflow_ids({field: text for field, text in ids.items() if text is not None})
    return {"workflow": workflow, **ids}


class CheckedRecord(NamedTuple):
    """A recommendation as a store gives it back, and its objects as they are kept."""

    record: RecommendationRecord
    request: str
    answer: str


def checked_record(record: RecommendationRecord) -> CheckedRecord:
    """Return a copy of a recommendation as a store keeps it, or raise :class:`StoreError`."""
    if record.status not in get_args(RecommendationStatus):
        raise StoreError(
            f"The status of a recommendation is {record.status!r}.", cure="Give feasible or infeasible."
        )
    if record.try_number is not None and (
        type(record.try_number) is not int or not 0 <= record.try_number < 2**31
    ):
        raise StoreError(
            f"try_number is {record.try_number!r}.", cure="Give Airflow's whole number, or None."
        )
    given = {field: getattr(record, field) for field in ("dag_id", "run_id", "task_id")}
    check_airflow_ids({field: text for field, text in given.items() if text is not None})
    request, answer = encode(record.request, "request"), encode(record.answer, "answer")
    checked = RecommendationRecord(
        model_id=checked_id(record.model_id, "model"),
        workflow=checked_text(record.workflow, "the name of a workflow"),
        request=decode(request),
        answer=decode(answer),
        status=record.status,
        dag_id=record.dag_id,
        run_id=record.run_id,
        task_id=record.task_id,
        try_number=record.try_number,
        recommendation_id=checked_id(record.recommendation_id, "recommendation"),
        created_at=checked_time(record.created_at),
    )
    return CheckedRecord(checked, request, answer)


def checked_observations(observations: Sequence[Observation]) -> tuple[Observation, ...]:
    """Return observations as a store gives them back, or raise :class:`StoreError`."""
    # Imported here: a task that asks for a model pays for no more.
    from qosflow_airflow.store.finished_runs import MAX_OBSERVATIONS, checked_observation

    if len(observations) > MAX_OBSERVATIONS:
        raise StoreError(
            f"{len(observations):,} observations are more than {MAX_OBSERVATIONS:,}.",
            cure="Give them in portions.",
        )
    return tuple(
        replace(
            checked_observation(found),
            recommendation_id=checked_id(found.recommendation_id, "recommendation"),
        )
        for found in observations
    )


def checked_time(value: object) -> datetime:
    """Return a timezone-aware time in UTC, or raise :class:`StoreError`."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise StoreError(f"The time {value!r} has no time zone.", cure="Use datetime.now(UTC).")
    return value.astimezone(UTC)


def checked_age(older_than: object) -> timedelta:
    """Return an age that is not negative, or raise :class:`StoreError`."""
    if not isinstance(older_than, timedelta) or older_than < timedelta(0):
        raise StoreError(f"older_than is {older_than!r}.", cure="Give a timedelta of zero or more.")
    return older_than


def checked_limit(limit: int, offset: int = 0) -> None:
    """Raise :class:`StoreError` unless ``limit`` is 1 to :data:`MAX_ROWS` and ``offset`` is not negative."""
    if type(limit) is not int or not 1 <= limit <= MAX_ROWS:
        raise StoreError(f"limit is {limit!r}.", cure=f"Give a whole number from 1 to {MAX_ROWS}.")
    if type(offset) is not int or not 0 <= offset < 2**31:
        raise StoreError(f"offset is {offset!r}.", cure="Give a whole number of zero or more.")


def _raise_not_found(entity: str, value: object) -> str:
    raise no_such(entity, value)
