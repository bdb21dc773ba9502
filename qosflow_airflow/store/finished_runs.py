"""Values of what finished tasks tell, and of the runs that they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, Literal, Self, get_args

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.exceptions import StoreError
from qosflow_airflow.store.payload import checked_text

State = Literal["success", "failed"]
Source = Literal["task", "user"]
"""Who said in which state a task ended: the task itself, or somebody who set its state."""

MAX_OBSERVATIONS = 1000
"""The most that are kept in one call."""
_MAX_NAME_CHARS = 1000
_INTEGERS = {"map_index": -1, "try_number": 0, "tasks": 1, "count": 1}
"""Whole numbers, each with the least that it may be."""


@frozen
class Observation:
    """One task instance of a recommended run, as it ended. It never changes.

    ``map_index`` is -1 for a task that is not mapped. Of the stage's ``count`` tasks it did ``tasks``.
    ``start_s`` and ``end_s`` are Airflow's, ``work_start_s`` and ``work_end_s`` those of the record that its
    program left, else of its pod's container (seconds since the epoch); ``queue_s`` is how long it waited
    before. Bytes are what its program moved. ``None`` is what is not known.
    """

    recommendation_id: str
    stage: str
    map_index: int
    try_number: int
    state: State
    source: Source = "task"
    tasks: int = 1
    count: int = 1
    start_s: float | None = None
    end_s: float | None = None
    work_start_s: float | None = None
    work_end_s: float | None = None
    queue_s: float | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    tier: str | None = None
    host: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    load: float | None = None
    load_source: str | None = None
    dag_version: str | None = None
    image: str | None = None

    @property
    def teaches(self) -> bool:
        """Whether it is the first try of a task that succeeded by itself."""
        return self.state == "success" and self.source == "task" and self.try_number == 1

    @property
    def span_s(self) -> tuple[float, float] | None:
        """When its work began and ended: as its program says, else as Airflow does."""
        if self.work_start_s is not None and self.work_end_s is not None:
            return self.work_start_s, self.work_end_s
        if self.start_s is not None and self.end_s is not None:
            return self.start_s, self.end_s
        return None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` made; what is unknown to this version is left out."""
        return cls(**{one.name: value[one.name] for one in fields(cls) if one.name in value})


@frozen
class StageRun:
    """What the observations of one stage of a run say together.

    ``tasks`` of its ``count`` were done by first tries that succeeded by themselves, from ``start_s`` to
    ``end_s``; ``others`` are task instances that failed, were tried again, or were set by somebody.
    ``skewed`` end before they start.

    All tries together went from ``first_s`` to ``last_s``. From ``ready_s`` on its first task only waited for
    Airflow; no first try waited longer than ``queue_s``.

    ``load`` is the mean over tasks, where all that know it have it in the unit ``load_source``.
    ``dag_versions`` and ``images`` are those of its tasks, in alphabetical order.
    """

    stage: str
    count: int
    tasks: int
    others: int
    skewed: int
    start_s: float | None
    end_s: float | None
    read_bytes: int | None = None
    write_bytes: int | None = None
    first_s: float | None = None
    last_s: float | None = None
    ready_s: float | None = None
    queue_s: float | None = None
    load: float | None = None
    load_source: str | None = None
    dag_versions: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


@frozen
class RunRecord:
    """A run that followed a recommendation: what was to run, and what is known of it.

    ``configuration`` is plain JSON, ``None`` where nothing was to run; ``predicted_s`` is what was said that
    it takes; ``outcome`` is the newest one, if any. ``replans`` is the recommendation whose place this one
    took in its run, if any.
    """

    recommendation_id: str
    model_id: str
    workflow: str
    created_at: datetime
    status: str
    deadline_s: float | None
    predicted_s: float | None
    configuration: dict[str, Any] | None
    outcome: dict[str, Any] | None
    stages: tuple[StageRun, ...]
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    replans: str | None = None

    @property
    def is_told(self) -> bool:
        """Whether an outcome or an observation tells of it."""
        return self.outcome is not None or bool(self.stages)


def checked_observation(found: object) -> Observation:
    """Return an observation that any store can keep, or raise :class:`StoreError`."""
    if not isinstance(found, Observation):
        raise StoreError(f"{type(found).__name__} is no observation.", cure="Give an Observation.")
    for name, allowed in (("state", get_args(State)), ("source", get_args(Source))):
        if getattr(found, name) not in allowed:
            raise StoreError(
                f"The {name} of an observation is {getattr(found, name)!r}.",
                cure=f"Give {' or '.join(allowed)}.",
            )
    for name, least in _INTEGERS.items():
        _check_whole(name, getattr(found, name), least)
    for name in ("read_bytes", "write_bytes"):
        if getattr(found, name) is not None:
            _check_whole(name, getattr(found, name), 0, 2**63)
    for name in ("start_s", "end_s", "work_start_s", "work_end_s", "queue_s", "load"):
        _check_number(name, getattr(found, name))
    _check_unit(found.load, found.load_source)
    checked_text(found.stage, "the stage of an observation")
    for name in ("tier", "host", "dag_id", "run_id", "task_id", "load_source", "dag_version", "image"):
        if getattr(found, name) is not None:
            checked_text(getattr(found, name), name, _MAX_NAME_CHARS)
    return found


def stage_runs(observations: Iterable[Observation]) -> tuple[StageRun, ...]:
    """Return what observations of one run say together, by stage in alphabetical order."""
    by_stage: dict[str, list[Observation]] = {}
    for found in observations:
        by_stage.setdefault(found.stage, []).append(found)
    return tuple(_stage_run(stage, by_stage[stage]) for stage in sorted(by_stage))


def _stage_run(stage: str, found: list[Observation]) -> StageRun:
    taught = [one for one in found if one.teaches]
    spans = [one.span_s for one in taught if one.span_s is not None]
    all_spans = [span for one in found if (span := one.span_s) is not None and span[0] <= span[1]]
    waits = [
        (one.start_s - one.queue_s, one.queue_s)
        for one in found
        if one.try_number == 1
        and one.source == "task"
        and one.start_s is not None
        and one.queue_s is not None
    ]

    def total(name: str) -> int | None:
        moved = [getattr(one, name) for one in taught if getattr(one, name) is not None]
        return sum(moved) if moved else None

    def texts(name: str) -> tuple[str, ...]:
        return tuple(sorted({getattr(one, name) for one in taught} - {None}))

    loads = [one.load for one in taught if one.load is not None]
    units = texts("load_source")
    return StageRun(
        stage,
        count=max(one.count for one in found),
        tasks=sum(one.tasks for one in taught),
        others=len(found) - len(taught),
        skewed=sum(end < start for start, end in spans),
        start_s=min((start for start, _ in spans), default=None),
        end_s=max((end for _, end in spans), default=None),
        read_bytes=total("read_bytes"),
        write_bytes=total("write_bytes"),
        first_s=min((start for start, _ in all_spans), default=None),
        last_s=max((end for _, end in all_spans), default=None),
        ready_s=min((ready for ready, _ in waits), default=None),
        queue_s=max((queue for _, queue in waits), default=None),
        load=math.fsum(loads) / len(loads) if len(units) == 1 else None,
        load_source=units[0] if len(units) == 1 else None,
        dag_versions=texts("dag_version"),
        images=texts("image"),
    )


def _check_unit(load: object, source: object) -> None:
    if (load is None) != (source is None):
        raise StoreError(f"load is {load!r}, and load_source {source!r}.", cure="Give both, or none.")


def _check_whole(name: str, value: object, least: int, beyond: int = 2**31) -> None:
    if type(value) is not int or not least <= value < beyond:
        raise StoreError(f"{name} is {value!r}.", cure=f"Give a whole number from {least} on.")


def _check_number(name: str, value: object) -> None:
    if value is not None and (type(value) not in (int, float) or not math.isfinite(float(str(value)))):
        raise StoreError(f"{name} is {value!r}.", cure="Give a finite number, or None.")
