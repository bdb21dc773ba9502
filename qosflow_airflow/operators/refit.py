"""Models that no longer hold: said at the end of a run, and built again by the pipeline Dag.

A comparison that finds a model stale is an event of ``qosflow://stale/<workflow>``, through the alias
:data:`STALE_ALIAS`, on which the Dag ``qosflow_refit`` is scheduled. It asks again whether the newest model
is stale: of several events only the first leads to a build.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias

from qosflow_airflow.operators.session import task_store

if TYPE_CHECKING:
    from airflow.sdk import Context

    from qosflow_airflow.learn.lessons import Lesson
    from qosflow_airflow.store.base import Store

STALE_ALIAS = "qosflow_stale"
STALE = AssetAlias(STALE_ALIAS)
"""Stands for the assets of all workflows, so that a Dag can wait for any of them."""

log = logging.getLogger(__name__)


def stale_uri(workflow: str) -> str:
    """Return the URI of the asset whose events say that the newest model of a workflow no longer holds."""
    return f"qosflow://stale/{quote(workflow, safe='')}"


def say_whether_it_holds(context: Context, store: Store, workflow: str) -> Lesson:
    """Log what the runs of a workflow teach; where its newest model is stale, warn and make an event."""
    from qosflow_airflow.answers import load_model
    from qosflow_airflow.learn.drift import DriftState
    from qosflow_airflow.learned import lesson_for
    from qosflow_airflow.past_runs import PastRuns

    loaded = load_model(store, workflow)
    lesson = lesson_for(PastRuns(store), loaded.version, loaded.model)
    stale = lesson.drift.state == DriftState.STALE
    for words in lesson.words:
        log.log(logging.WARNING if stale else logging.INFO, "The next recommendation: %s", words)
    events = context.get("outlet_events")
    if stale and events is not None:
        extra: dict[str, Any] = {
            "workflow": workflow,
            "model_id": loaded.version.model_id,
            "version": loaded.version.version,
            "drift": lesson.drift.words,
        }
        events[STALE].add(Asset(stale_uri(workflow)), extra=extra)
    return lesson


def requested_refits(
    events: Mapping[Any, Iterable[Any]], qosflow_conn_id: str | None = None
) -> list[dict[str, Any]]:
    """Return the parameters of ``qosflow_pipeline`` for each workflow that the events call stale and is.

    The build is asked for what the stale one was. Nothing is asked for where a newer model holds.
    """
    from qosflow_airflow.answers import load_model
    from qosflow_airflow.learn.drift import DriftState
    from qosflow_airflow.learned import lesson_for
    from qosflow_airflow.past_runs import PastRuns

    workflows = {
        str(event.extra["workflow"])
        for found in events.values()
        for event in found
        if "workflow" in (event.extra or {})
    }
    asked = []
    with task_store(qosflow_conn_id) as store:
        for workflow in sorted(workflows):
            loaded = load_model(store, workflow)
            drift = lesson_for(PastRuns(store), loaded.version, loaded.model).drift
            said = "is built again" if drift.state == DriftState.STALE else "is left as it is"
            log.info("Version %s of %s %s: %s.", loaded.version.version, workflow, said, drift.words)
            if drift.state == DriftState.STALE:
                asked.append(build_parameters(workflow, loaded.version.options))
    return asked


def build_parameters(workflow: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of ``qosflow_pipeline`` that ask for a build with the options of another one."""
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in options.items()
        if value is not None
    }
    return {**texts, "bundle": workflow, "name": workflow}
