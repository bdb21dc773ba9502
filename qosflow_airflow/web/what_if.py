"""A request as a form and as an address, and its answer as the model's page shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from qosflow_airflow.core.explain import configuration_in_words, measurement_in_words
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.qos import OBJECTIVES, QoSRequest
from qosflow_airflow.web.insights import (
    NOTHING,
    StageLine,
    TradeOffLine,
    alternatives,
    seconds,
    stage_lines,
    trade_offs,
)

NUMBERS = ("deadline_s", "confidence", "max_nodes", "max_node_hours", "max_cost")
ASKED = "ask"
"""The field of a form that was sent: without it nothing was asked yet, and no tier means all of them."""
MARKS = ("{{", "{%", "{#")
"""Text with one of these is rendered by Airflow where it is put into a Dag."""

Fields = Sequence[tuple[str, str]]
"""Names and values of a form as they are sent; a name may come several times."""


@dataclass(frozen=True)
class FormView:
    """What the form holds: numbers as text, tiers with whether they are allowed, stages with their pin."""

    numbers: Mapping[str, str]
    tiers: tuple[tuple[str, bool], ...]
    pins: tuple[tuple[str, str, str], ...]
    objectives: tuple[str, ...]
    objective: str


@dataclass(frozen=True)
class RepairLink:
    """A change that makes the request feasible, the configuration then, and the query that asks it."""

    change: str
    configuration: str
    makespan: str
    query: str


@dataclass(frozen=True)
class AnswerView:
    """An answer that nobody keeps; of an infeasible one the nearest configuration."""

    status: str
    explanation: str
    configuration: str
    facts: tuple[tuple[str, str], ...]
    stages: tuple[StageLine, ...]
    alternatives: tuple[tuple[str, str], ...]
    trade_offs: tuple[TradeOffLine, ...]
    depends_on: tuple[str, ...]
    repairs: tuple[RepairLink, ...]
    missing: tuple[str, ...]
    params: str
    code: str
    compare_query: str


def parse_form(fields: Fields, model: Model) -> QoSRequest:
    """Return the request of a form.

    A pin comes as ``pin-N``, N being the position of the stage: names may hold any character.

    Raises
    ------
    RequestError
        When a value is no number, or nothing that can be asked for.
    """
    single = dict(fields)
    values: dict[str, Any] = {name: single.get(name) for name in NUMBERS}
    values["objective"] = single.get("objective")
    allowed = [value for name, value in fields if name == "allow"]
    everything = set(allowed) >= set(model.catalog.names)
    if not everything and (allowed or ASKED in single):
        values["allow"] = allowed
    stages = model.workflow.stage_names
    values["pin"] = {stage: single.get(f"pin-{at}", "") for at, stage in enumerate(stages)}
    return QoSRequest.parse(values)


def form_query(request: QoSRequest, model: Model) -> str:
    """Return the query of an address that asks a request; the inverse of :func:`parse_form`."""
    asked = request.to_json()
    fields = [(name, f"{asked[name]:.15g}") for name in NUMBERS if asked[name] is not None]
    excluded = set(request.exclude)
    allowed = [tier for tier in request.allow or model.catalog.names if tier not in excluded]
    fields += [("allow", tier) for tier in allowed]
    fields += [
        (f"pin-{at}", request.pin[stage])
        for at, stage in enumerate(model.workflow.stage_names)
        if stage in request.pin
    ]
    return urlencode([*fields, ("objective", request.objective), (ASKED, "1")])


def constraints_query(request: QoSRequest) -> str:
    """Return the query that asks the constraints of a request of two models; pins are left out."""
    asked = {name: value for name, value in asked_for(request).items() if name != "pin"}
    return urlencode(asked, doseq=True)


def form_view(fields: Fields, model: Model) -> FormView:
    """Return the form as it was sent, right or wrong."""
    single = dict(fields)
    allowed = {value for name, value in fields if name == "allow"}
    all_of_them = not allowed and ASKED not in single
    return FormView(
        {name: single.get(name, "") for name in NUMBERS},
        tuple((tier, all_of_them or tier in allowed) for tier in model.catalog.names),
        tuple(
            (f"pin-{at}", stage, single.get(f"pin-{at}", ""))
            for at, stage in enumerate(model.workflow.stage_names)
        ),
        OBJECTIVES,
        single.get("objective", OBJECTIVES[0]),
    )


def answer_view(answer: Mapping[str, Any], request: QoSRequest, model: Model) -> AnswerView:
    """Return what is shown of an answer."""
    feasible = answer["status"] == "feasible"
    found = answer if feasible else answer.get("nearest") or {}
    configuration = found.get("configuration")
    return AnswerView(
        status=answer["status"],
        explanation=answer["explanation"],
        configuration=configuration_in_words(configuration) if configuration else NOTHING,
        facts=tuple(facts(answer, found)),
        stages=tuple(stage_lines(found, model.workflow)),
        alternatives=tuple(alternatives(answer)),
        trade_offs=tuple(trade_offs(answer)),
        depends_on=tuple((answer.get("sensitivity") or {}).get("words", ())),
        repairs=tuple(_repair(one, request, model) for one in answer.get("repairs", ())),
        missing=tuple(measurement_in_words(one) for one in answer.get("missing", ())),
        params=as_params(request),
        code=as_code(request, model.workflow.name),
        compare_query=constraints_query(request),
    )


def as_params(request: QoSRequest) -> str:
    """Return what is asked for as the JSON of a Dag run's params."""
    return json.dumps(asked_for(request), indent=2, ensure_ascii=False)


def as_code(request: QoSRequest, workflow: str) -> str:
    """Return the operator that asks the same; nothing where Airflow would render a template in a name."""
    arguments = {"task_id": "recommend", "workflow": workflow, **asked_for(request)}
    lines = [f"    {name}={value!r}," for name, value in arguments.items()]
    code = "\n".join(["QoSRecommendOperator(", *lines, ")"])
    return "" if any(mark in code for mark in MARKS) else code


def asked_for(request: QoSRequest) -> dict[str, Any]:
    """Return what a request asks for, as plain JSON, without what it leaves open."""
    free = QoSRequest().to_json()
    return {name: value for name, value in request.to_json().items() if value != free[name]}


def _repair(found: Mapping[str, Any], request: QoSRequest, model: Model) -> RepairLink:
    changed = QoSRequest.parse({**request.to_json(), **found["changes"]})
    return RepairLink(
        found["words"],
        configuration_in_words(found["configuration"]),
        seconds(found["makespan_s"]),
        form_query(changed, model),
    )


def facts(answer: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of a configuration, by name; ``found`` is what the answer says of it."""
    known = [("Makespan", seconds(found.get("makespan_s")))]
    if answer.get("overhead_s"):
        known.append(("With Airflow's own time", seconds(found.get("run_s"))))
    interval = answer.get("interval")
    if interval:
        low, high = seconds(interval["p05_s"]), seconds(interval["p95_s"])
        # Answers that were kept by older versions do not say where their interval comes from.
        why = f", {interval['words']}" if "words" in interval else ""
        known.append(("90 of 100 runs", f"{low} to {high}{why}"))
        if interval.get("p_deadline") is not None:
            known.append(("Deadline kept with", f"{interval['p_deadline']:.0%}"))
    if "node_hours" in found:
        known.append(("Node-hours", f"{found['node_hours']:.4g}"))
    if answer.get("cost") is not None:
        known.append(("Cost", f"{answer['cost']:.4g}"))
    rule = (found.get("region") or {}).get("rule")
    return [*known, ("Region", rule)] if rule else known
