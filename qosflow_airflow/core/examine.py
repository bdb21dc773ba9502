"""One configuration that a person names: what an answer says of its own, and the best beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qosflow_airflow.core.candidate import Candidate
from qosflow_airflow.core.cost import node_hours
from qosflow_airflow.core.describe import describe
from qosflow_airflow.core.explain import CAVEATS, configuration_in_words, measurement_in_words
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.obstacles import missing_measurements
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.search import ConfidentSearch, best, search_of
from qosflow_airflow.core.sensitivity import sensitivity
from qosflow_airflow.core.space import Configuration, Layouts
from qosflow_airflow.exceptions import RequestError

BEST = 3
"""The best configurations that are listed beside the one that is examined."""


def parse_configuration(model: Model, text: str) -> Configuration:
    """Return the configuration that ``nodes=2,split=ssd,merge=disk`` names: every stage, in any order.

    Raises
    ------
    RequestError
        When a part is not ``name=value``, is given twice, or a stage or the node count is missing.
    TierError, WorkflowError
        When a tier or a stage is unknown.
    QoSFlowError
        When the model has no such node count.
    """
    given: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, separator, value = (word.strip() for word in part.partition("="))
        if not (separator and name and value) or name in given:
            raise RequestError(
                f"{part!r} in the configuration is not name=value, or is given twice",
                cure="Write it as in nodes=2,split=ssd,merge=disk.",
            )
        given[name] = value
    nodes = given.pop("nodes", "")
    if not nodes.isascii() or not nodes.isdigit():
        raise RequestError(
            f"nodes is {nodes!r} in the configuration, not a whole number",
            cure=f"Use one of {', '.join(map(str, model.nodes))}, as in nodes={model.nodes[0]}.",
        )
    tiers = {model.workflow.stage(stage).name: model.catalog.tier(tier).name for stage, tier in given.items()}
    if missing := [stage for stage in model.workflow.stage_names if stage not in tiers]:
        raise RequestError(
            f"the configuration has no tier for {', '.join(missing)}", cure="Name one for every stage."
        )
    return Configuration(model.scale(int(nodes)).nodes, tiers)


def examine(
    model: Model, configuration: Configuration, search: ConfidentSearch | None = None
) -> dict[str, Any]:
    """Return what there is to say of a configuration, as plain JSON.

    ``status`` is ``known``, ``over_capacity`` or ``unmeasured``. In an unmeasured one all that needs its
    makespan is left out, and ``missing`` lists what would have to be measured. ``alternatives`` are the best
    configurations of the model, each other than the one that is examined. ``search`` is that of the model,
    where there is one already.

    Raises
    ------
    RequestError
        When the rules do not allow the configuration.
    """
    layouts = model.space.layout(configuration.tiers)
    if not model.space.valid(layouts)[0]:
        raise RequestError(
            "the rules do not allow to move data from one local tier to another",
            cure="Place stages that exchange data on one local tier, or one of them on a shared tier.",
        )
    makespans = model.makespans(configuration.nodes)
    makespan_s = float(makespans.makespan_s(layouts)[0])
    search = search or search_of(model)
    found: dict[str, Any] = {"workflow": model.workflow.name, "rules": model.rules.name}
    if np.isnan(makespan_s):
        found |= {
            "status": "unmeasured",
            "configuration": configuration.to_json(),
            "missing": _missing(model, configuration),
        }
    else:
        over = bool(makespans.capacity.fit(layouts).over[0])
        found |= {
            "status": "over_capacity" if over else "known",
            **describe(model, configuration.nodes, layouts[0]),
            "interval": search.draws(configuration.nodes).interval(layouts[0].tolist()),
            "sensitivity": _sensitivity(model, configuration, layouts, makespan_s),
        }
    found["alternatives"] = _alternatives(model, search, configuration)
    return {**found, "explanation": _in_words(found)}


def _sensitivity(
    model: Model, configuration: Configuration, layouts: Layouts, makespan_s: float
) -> dict[str, Any]:
    """Return how the makespan depends on tiers and nodes; without rivals, as if pinned."""
    candidate = Candidate(makespan_s, makespan_s, configuration.nodes, tuple(layouts[0].tolist()))
    pinned = QoSRequest(pin=configuration.tiers, max_nodes=configuration.nodes)
    return sensitivity(model, pinned, iter([candidate]))


def _missing(model: Model, configuration: Configuration) -> list[dict[str, Any]]:
    one_scale = replace(model, scales=(model.scale(configuration.nodes),))
    return missing_measurements(one_scale, QoSRequest(pin=configuration.tiers))


def _alternatives(
    model: Model, search: ConfidentSearch, configuration: Configuration
) -> list[dict[str, Any]]:
    found = []
    for candidate in best(search, QoSRequest(), BEST + 1):
        other = model.space.configuration(candidate.nodes, np.array(candidate.layout, dtype=np.int8))
        if other != configuration:
            hours = node_hours(candidate.nodes, np.array([candidate.makespan_s]))
            found.append(
                {
                    "configuration": other.to_json(),
                    "makespan_s": candidate.makespan_s,
                    "node_hours": float(hours[0]),
                }
            )
    return found[:BEST]


def _in_words(found: Mapping[str, Any]) -> str:
    words = configuration_in_words(found["configuration"])
    if found["status"] == "unmeasured":
        missing = ", ".join(map(measurement_in_words, found["missing"]))
        return f"What {words} takes is not known. What would have to be measured: {missing}."
    parts = [f"{words[0].upper()}{words[1:]}: estimated makespan {found['makespan_s']:.1f} s."]
    if found["status"] == "over_capacity":
        parts.append(f"It cannot run: {'; '.join(found['capacity']['reasons'])}.")
    elif found["alternatives"]:
        more_s = found["makespan_s"] - found["alternatives"][0]["makespan_s"]
        parts.append(
            f"The best other configuration takes {abs(more_s):.1f} s {'less' if more_s > 0 else 'more'}."
        )
    if found["state"] in CAVEATS:
        parts.append(CAVEATS[found["state"]])
    return " ".join(parts)
