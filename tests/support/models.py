"""Random models: several scales over one random workflow and platform."""

from __future__ import annotations

import random

from qosflow_airflow.core.makespan_rules import MakespanRules
from qosflow_airflow.core.model import Model, ScaleModel
from tests.support.instances import random_catalog, random_demand, random_times, random_workflow


def random_model(
    rng: random.Random,
    rules: MakespanRules,
    unknown: float = 0.1,
    stages: int = 4,
    shares: bool | None = None,
) -> Model:
    """A model of a few scales without regions; ``shares`` says whether it is known what its work shares."""
    workflow = random_workflow(rng, stages)
    catalog = random_catalog(rng, shared=2 if rules.moves_between_local_tiers else 1)
    scales = sorted(rng.sample((1, 2, 3, 5, 8), rng.randint(1, 3)))
    times = [random_times(rng, workflow, catalog, nodes, unknown) for nodes in scales]
    if rng.random() < 0.5 if shares is None else shares:
        times = [random_demand(rng, at_scale) for at_scale in times]
    return Model(workflow, catalog, rules, tuple(ScaleModel(t.nodes, t) for t in times))
