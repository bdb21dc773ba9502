"""Random workflows, platforms, times and tables: small, and of every shape that the model distinguishes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from qosflow_airflow.core.demand import Demand
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.transfer import FloatArray, Provenance, StageTimes, blank_tables
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge, Stage, Workflow
from tests.support.plain_table import Row, tasks_per_node

NODES = (1, 2, 5)


def random_workflow(rng: random.Random, stages: int = 5) -> Workflow:
    """A DAG of up to ``stages`` stages, some on the level of a predecessor, some without any input."""
    found: list[Stage] = []
    for position in range(rng.randint(1, stages)):
        producers = [stage for stage in found if rng.random() < 0.45]
        predecessors: dict[str, tuple[str, ...]] = {stage.name: () for stage in producers}
        if rng.random() < (0.3 if producers else 0.9):
            predecessors[INITIAL_DATA] = ()
        level = max((stage.level for stage in producers), default=1)
        level += rng.choice((0, 1, 1, 1)) if producers else rng.choice((0, 0, 0, 1))
        # Names in another order than the stages, with capitals: ties are broken by names.
        name = f"{rng.choice('abXYz')}{rng.randint(0, 9)}_{position}"
        found.append(Stage(name, level, rng.choice((1, 3, 10)), predecessors, (), final=rng.random() < 0.2))
    return Workflow("random", tuple(found))


def random_catalog(rng: random.Random, shared: int = 2, local: int = 2) -> TierCatalog:
    """1 to ``shared`` shared tiers and 0 to ``local`` local ones; the home tier is any shared one."""
    names = [StorageTier(f"pfs{i}", shared=True) for i in range(rng.randint(1, shared))]
    home = rng.choice(names).name
    names += [StorageTier(f"local{i}", shared=False) for i in range(rng.randint(0, local))]
    return TierCatalog(tuple(names), home, NodePool(price_per_hour=2.0))


def random_times(
    rng: random.Random, workflow: Workflow, catalog: TierCatalog, nodes: int, unknown: float = 0.0
) -> StageTimes:
    """Times of any provenance: a share of ``unknown`` is unknown, and some are not observed."""
    generator = np.random.default_rng(rng.getrandbits(32))
    edges = workflow.edges
    tables = blank_tables(len(workflow.stages), len(catalog.tiers), len(edges))
    for name, table in tables.items():
        shape = table.seconds.shape
        table.seconds[...] = generator.uniform(0.01, 10.0, shape)
        table.provenance[...] = generator.choice([0, 0, 0, 1], shape)
        table.tasks_per_node[...] = generator.integers(-1, 4, shape)
        not_observed = generator.random(shape) < 0.05
        table.seconds[not_observed] = 0.0
        table.provenance[not_observed] = Provenance.NOT_OBSERVED
        if name != "compute":
            no_data = generator.random(shape) < unknown
            table.seconds[no_data] = np.nan
            table.provenance[no_data] = Provenance.UNKNOWN
    for table in tables.values():
        table.log_sd[...] = generator.uniform(0.0, 0.6, table.seconds.shape)
    return StageTimes(nodes, workflow.stage_names, catalog.names, edges, **tables)


def random_demand(rng: random.Random, times: StageTimes) -> StageTimes:
    """The same times with what each of them takes of what it shares: nothing, all, or something between."""
    generator = np.random.default_rng(rng.getrandbits(32))

    def some(*shape: int) -> FloatArray:
        return np.asarray(generator.choice([0.0, 1.0, 1.0, generator.random()], shape))

    stages, tiers, edges = len(times.stages), len(times.tiers), len(times.edges)
    copies = (edges, tiers, tiers)
    demand = Demand(some(stages, tiers), some(stages, tiers), some(stages), some(*copies), some(*copies))
    return replace(times, demand=demand)


def random_rows(
    rng: random.Random, workflow: Workflow, catalog: TierCatalog, nodes: Sequence[int], missing: float = 0.1
) -> list[Row]:
    """Rows for every pair of stages and tiers at the tasks per node of ``nodes``, some of them left out."""
    rows = [
        Row(*row[:4], producer_at, consumer_at, rng.uniform(0.01, 10.0), rng.uniform(0.01, 10.0))
        for row in _pairs(workflow, catalog)
        if rng.random() >= missing
        for producer_at, consumer_at in _tasks_per_node(rng, workflow, nodes, *row[:2])
    ]
    gone = {row[:2] for row in rows if rng.random() < missing / 20}
    rows = [row for row in rows if row[:2] not in gone]
    rng.shuffle(rows)
    # A table with no row at all is not one.
    return rows or [Row("nobody", "nothing", "pfs0", "pfs0", 1, 1, 1.0, 1.0)]


def _pairs(workflow: Workflow, catalog: TierCatalog) -> Iterator[tuple[str, str, str, str]]:
    names = catalog.names
    for edge in workflow.edges:
        if edge.producer != INITIAL_DATA and edge.consumer != FINAL_DATA:
            yield from ((*edge, a, b) for a in names for b in names)
    for stage in workflow.stage_names:
        outside = f"stage_in-{stage}"
        yield from ((outside, stage, a, a) for a in names)
        yield from ((outside, stage, f"{a}-{b}", b) for a in names for b in names)
        yield from ((stage, f"stage_out-{stage}", a, f"{a}-{b}") for a in names for b in names)


def _tasks_per_node(
    rng: random.Random, workflow: Workflow, nodes: Sequence[int], producer: str, consumer: str
) -> Iterator[tuple[int, int]]:
    """Tasks per node of the two stages at some of the node counts, sometimes at none of them."""
    counts = rng.sample(list(nodes), rng.randint(1, len(nodes)))
    for count in counts:
        pair = [
            tasks_per_node(workflow.stage(name), count) if name in workflow.index else rng.randint(1, 4)
            for name in (producer, consumer)
        ]
        yield (99, 98) if rng.random() < 0.1 else (pair[0], pair[1])


def random_layouts(rng: random.Random, space: ConfigurationSpace, count: int) -> Layouts:
    """Up to ``count`` valid layouts, in the order of the space."""
    layouts = space.layouts()
    rows = sorted(rng.sample(range(len(layouts)), min(count, len(layouts))))
    return layouts[rows]


def tiers_of(space: ConfigurationSpace, layout: np.ndarray) -> dict[str, str]:
    """One row of a layout array as stage to tier."""
    return dict(space.configuration(1, layout).tiers)


def chain(*stages: tuple[str, int], final: Sequence[str] = ()) -> Workflow:
    """Stages one after the other, given as (name, tasks); the first reads the initial data."""
    found = []
    for position, (name, tasks) in enumerate(stages):
        before = INITIAL_DATA if position == 0 else stages[position - 1][0]
        found.append(Stage(name, position + 1, tasks, {before: ()}, (), final=name in final))
    return Workflow("chain", tuple(found))


def platform(shared: Sequence[str] = ("pfs",), local: Sequence[str] = ("tmpfs", "ssd")) -> TierCatalog:
    """A catalog of tiers by name."""
    return TierCatalog(
        (*(StorageTier(n, True) for n in shared), *(StorageTier(n, False) for n in local)), shared[0]
    )


def final_edge(stage: str) -> Edge:
    return Edge(stage, FINAL_DATA)
