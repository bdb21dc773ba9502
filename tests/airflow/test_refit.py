"""A model that no longer holds: said at the end of a run, an event, and a build that is asked for once."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.learn.drift import DriftState
from qosflow_airflow.operators.compare import QoSCompareOperator
from qosflow_airflow.operators.recommend import QoSRecommendOperator
from qosflow_airflow.operators.refit import (
    STALE,
    build_parameters,
    requested_refits,
    say_whether_it_holds,
    stale_uri,
)
from qosflow_airflow.store.base import ModelVersion
from tests.support.small_model import FakeTaskInstance, KeptStore, publish_model

pytestmark = pytest.mark.airflow


def run(store: KeptStore, factor: float, count: int) -> None:
    rng = random.Random(count)
    for _ in range(count):
        identifier = answer_request(store, "two", QoSRequest(max_nodes=1))[0].recommendation_id
        taken_s = 2.0 * factor * math.exp(rng.gauss(0, 0.02))
        stages = {stage: {"measured_s": taken_s} for stage in ("split", "merge")}
        store.add_outcome(identifier, {"measured_s": 2 * taken_s, "stages": stages})


def events_of(accessors: OutletEventAccessors) -> list[Any]:
    return list(accessors[STALE].asset_alias_events)


def said(store: KeptStore) -> tuple[Any, list[Any]]:
    accessors = OutletEventAccessors()
    context: Any = {"outlet_events": accessors}
    return say_whether_it_holds(context, store, "two"), events_of(accessors)


def test_a_model_that_holds_makes_no_event(store: KeptStore, published: ModelVersion) -> None:
    run(store, 1.3, 10)
    lesson, events = said(store)
    assert lesson.drift.state == DriftState.OK
    assert events == []


def test_a_stale_model_is_warned_of_makes_an_event_and_is_built_again_once(
    store: KeptStore,
    published: ModelVersion,
    workflow: Workflow,
    catalog: TierCatalog,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(store, 1.0, 12)
    run(store, 2.0, 5)
    lesson, (event,) = said(store)
    assert lesson.drift.state == DriftState.STALE
    assert "no longer holds" in caplog.text
    assert event.dest_asset_key.uri == stale_uri("two") == "qosflow://stale/two"
    assert event.extra["version"] == 1
    context: Any = {"ti": FakeTaskInstance()}
    QoSRecommendOperator(task_id="recommend", workflow="two").execute(context)
    assert "THE MODEL NO LONGER HOLDS: runs take" in capsys.readouterr().out
    triggering = {Asset(stale_uri("two")): [SimpleNamespace(extra=event.extra)] * 3}
    (asked,) = requested_refits(triggering)
    assert (asked["bundle"], asked["name"]) == ("two", "two")
    before = store.model_part(published.model_id, "model")
    publish_model(store, workflow, catalog)
    assert requested_refits(triggering) == []
    lesson, events = said(store)
    assert lesson.drift.state == DriftState.UNKNOWN
    assert events == []
    assert lesson.calibration.corrections["split", "ram"].factor > 1.5
    assert store.model_part(published.model_id, "model") == before


def test_a_build_is_asked_for_with_the_options_of_the_last_one() -> None:
    options = BuildOptions.parse({"scales": "1,2", "tiers": "disk,ram", "regions": 4, "data_scale": 2.0})
    asked = build_parameters("genome", options.to_json())
    assert asked["scales"] == "1,2"
    kept = {name: value for name, value in asked.items() if name not in ("bundle", "name")}
    assert BuildOptions.parse(kept) == options
    from tests.dags.test_import import load

    params = load("qosflow_pipeline").qosflow_pipeline().params
    for name, value in asked.items():
        params[name] = value
    params.validate()


def test_events_of_others_ask_for_nothing(store: KeptStore, published: ModelVersion) -> None:
    assert requested_refits({}) == []
    assert requested_refits({Asset("x://y"): [SimpleNamespace(extra=None), SimpleNamespace(extra={})]}) == []


def test_a_comparison_keeps_its_own_outlets() -> None:
    mine = Asset("x://mine")
    assert QoSCompareOperator(task_id="compare", recommendation=None, outlets=[mine]).outlets == [mine, STALE]
