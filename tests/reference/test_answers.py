"""Repairs, trade-offs and sensitivities of the public workflows, asked again."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE, RULES, MakespanRules
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.search import search_of
from qosflow_airflow.core.transfer_table import stage_times
from qosflow_airflow.readers.bundle import read_bundle

pytestmark = pytest.mark.reference

SCALES = {"1kgenome": (2, 5, 10), "ddmd": (1, 2, 4), "pyflex_s9_48f": (2, 4, 8)}


@cache
def public_model(folder: Path, name: str, rules: MakespanRules) -> Model:
    bundle = read_bundle(folder / name)
    assert bundle.catalog is not None
    assert bundle.transfer_table is not None
    table, workflow, catalog = bundle.transfer_table, bundle.workflow, bundle.catalog
    scales = [ScaleModel(n, stage_times(table, workflow, catalog, n, rules)) for n in SCALES[name]]
    return Model(workflow, catalog, rules, tuple(scales))


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_repairs_of_the_public_workflows_make_requests_feasible(
    reference: Path, name: str, rules: MakespanRules
) -> None:
    model = public_model(reference, name, rules)
    search = search_of(model)
    best = next(search.in_order(QoSRequest()))
    first = model.workflow.stage_names[0]
    for request in (
        QoSRequest(deadline_s=best.makespan_s * 0.5),
        QoSRequest(deadline_s=best.makespan_s, max_nodes=best.nodes - 1 or 1, pin={first: "ssd"}),
        QoSRequest(max_nodes=1, exclude=("tmpfs",), pin={first: "tmpfs"}, max_node_hours=1e-9),
        QoSRequest(deadline_s=1e-3, allow=("ssd",), exclude=("ssd",)),
    ):
        answer = recommend(model, request, search)
        if isinstance(answer, Recommendation):
            continue
        repairs = answer.answer["repairs"]
        assert repairs
        for repair in repairs:
            again = recommend(model, QoSRequest.parse({**request.to_json(), **repair["changes"]}), search)
            assert isinstance(again, Recommendation), repair["words"]
            assert again.makespan_s == repair["makespan_s"]


@pytest.mark.parametrize("name", ["1kgenome", "ddmd"])
def test_the_front_of_a_public_workflow_is_what_nothing_dominates(reference: Path, name: str) -> None:
    model = public_model(reference, name, REFERENCE)
    answer = recommend(model, QoSRequest()).answer
    layouts = model.space.layouts()
    amounts = [
        (seconds, nodes * seconds / 3600)
        for nodes in model.nodes
        for seconds in model.makespans(nodes).makespan_s(layouts).tolist()
    ]
    front = {
        one for one in amounts if not any(a <= one[0] and b <= one[1] and (a, b) != one for a, b in amounts)
    }
    found = [(point["makespan_s"], point["node_hours"]) for point in answer["pareto"]["points"]]
    np.testing.assert_allclose(found, sorted(front), rtol=1e-12)
    assert answer["pareto"]["complete"] is True


def test_a_slower_beegfs_costs_what_the_answer_says(reference: Path) -> None:
    model = public_model(reference, "1kgenome", COMPLETE)
    answer = recommend(model, QoSRequest(allow=("beegfs",)))
    assert not isinstance(answer, Infeasible)
    card = answer.answer["sensitivity"]["tiers"]
    # Everything lies there, and a table of transfers knows no compute time: the share is the whole.
    assert card["beegfs"]["share"] == pytest.approx(0.10)
    assert card["beegfs"]["makespan_s"] == pytest.approx(1.1 * answer.makespan_s)
    assert card["tmpfs"]["change_s"] == card["ssd"]["change_s"] == 0.0
