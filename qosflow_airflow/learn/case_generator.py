"""Runs that never were: families of workflows on made-up platforms, estimated one way and timed another.

For tests and benchmarks. The estimate takes volumes over nominal rates. What a run "takes" is the makespan of
the same layout from times that differ in ways that no estimate knows, some of which other workflows share and
some not, and noise:

- shared by all workflows of a platform: each tier reaches another part of its nominal rate; shared tiers lose
  more the busier the platform is and the more tasks a node runs; opening files costs time by the task;
- a workflow's own: each of its stages computes longer or shorter than foreseen;
- nobody's: each stage of each run by some 8 %, each run by 3 %.

The estimate says how sure it is, and is too sure: it knows nothing of what a platform does to nominal rates.

Nothing here was measured, and no figure made from it says how well anything works in the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer import FloatArray, Provenance, StageTimes, blank_tables
from qosflow_airflow.core.workflow import INITIAL_DATA, Workflow
from qosflow_airflow.learn.case_families import FAMILIES, family_workflow
from qosflow_airflow.learn.modelled_run import ModelledRun

MIB = float(1 << 20)
SLOTS = 16
"""Tasks that a node runs at once."""
STAGE_NOISE, RUN_NOISE = 0.08, 0.03
CLAIMED_LOG_SD = {"read": 0.15, "write": 0.15, "stage_in": 0.15, "stage_out": 0.15, "compute": 0.1}
"""The spread that estimates are said to have."""
CATALOG = TierCatalog(
    (
        StorageTier("pfs", shared=True),
        StorageTier("ssd", shared=False),
        StorageTier("tmpfs", shared=False, memory=True),
    )
)
NODE_MIB_S = np.array([400.0, 700.0, 2500.0])
"""Nominal rates of a node, by tier."""
SHARED_LIMIT_MIB_S = 3000.0
"""What the shared tier gives to all nodes together."""


@dataclass(frozen=True)
class Platform:
    """What is true of a platform and in no estimate.

    ``efficiency`` is the part of the nominal rate by tier, ``contention`` how much shared tiers lose to load
    and neighbours, ``open_s`` what a task waits for files by tier, ``speed`` how fast its nodes compute.
    """

    name: str
    efficiency: FloatArray
    contention: float
    open_s: FloatArray
    speed: float


def made_up_platform(name: str, seed: int) -> Platform:
    """Return a platform by chance, the same one for the same ``seed``."""
    rng = np.random.default_rng([seed, 1])
    return Platform(
        name,
        efficiency=np.exp(rng.normal([-0.4, -0.1, -0.05], [0.4, 0.25, 0.15])),
        contention=float(rng.uniform(0.1, 0.5)),
        open_s=rng.uniform([0.05, 0.0, 0.0], [0.4, 0.05, 0.01]),
        speed=float(np.exp(rng.normal(0.0, 0.15))),
    )


def generated_runs(
    count: int,
    seed: int = 0,
    families: Sequence[str] = tuple(FAMILIES),
    platforms: int = 4,
    *,
    arriving: bool = False,
) -> Iterator[ModelledRun]:
    """Yield ``count`` runs of ``families`` on ``platforms`` platforms, in the order in which they finished.

    ``arriving`` families begin to run one after the other, all of them by the end; otherwise at once.
    """
    rng = np.random.default_rng(seed)
    places = [made_up_platform(f"site{at + 1}", seed * 1000 + at) for at in range(platforms)]
    habits = {
        family: np.exp(rng.normal(0.0, 0.25, len(FAMILIES[family])))
        for family in families  # how much longer each stage really computes
    }
    for at in range(count):
        begun = 1 + at * len(families) // count if arriving else len(families)
        family = families[int(rng.integers(begun))]
        place = places[int(rng.integers(platforms))]
        size, nodes = int(rng.choice([10, 30, 100])), int(rng.choice([1, 2, 4, 8]))
        foreseen = _foreseen(family, size, nodes)
        layout = rng.integers(0, len(CATALOG.tiers), len(foreseen.workflow.stages)).astype(np.int8)
        load = float(rng.uniform(0.0, 1.0))
        noise = np.exp(rng.normal(0.0, STAGE_NOISE, len(layout)))
        true = _true(foreseen, place, habits[family], load, noise)
        stages = np.arange(len(layout))
        work_s = true.read.seconds[stages, layout] + true.compute.seconds + true.write.seconds[stages, layout]
        model = MakespanModel(foreseen.workflow, CATALOG, true, COMPLETE)
        run_noise = float(np.exp(rng.normal(0.0, RUN_NOISE)))
        yield ModelledRun(
            run=f"run{at + 1}",
            workflow=family,
            platform=place.name,
            makespans=foreseen,
            layout=tuple(layout.tolist()),
            observed_s=float(model.makespan_s(layout[None, :])[0]) * run_noise,
            stage_s=dict(zip(foreseen.workflow.stage_names, work_s.tolist(), strict=True)),
            load=load,
        )


@cache
def _foreseen(family: str, size: int, nodes: int) -> MakespanModel:
    workflow = family_workflow(family, size)
    return MakespanModel(workflow, CATALOG, _nominal_times(workflow, family, size, nodes), COMPLETE)


def _nominal_times(workflow: Workflow, family: str, size: int, nodes: int) -> StageTimes:
    """Return volumes over nominal rates, and computing in waves of the node's slots."""
    made = dict(zip(workflow.stage_names, FAMILIES[family], strict=True))
    output_bytes = np.array([made[s.name].output_mib * s.tasks for s in workflow.stages]) * MIB
    input_bytes = np.array([made[s.name].input_mib * s.tasks for s in workflow.stages]) * MIB
    index = workflow.index
    edge_bytes = np.array(
        [
            input_bytes[index[consumer]] if producer == INITIAL_DATA else output_bytes[index[producer]]
            for producer, consumer in workflow.edges
        ]
    )
    reads = np.array([consumer for _, consumer in workflow.edges], dtype=object)
    read_bytes = np.array([edge_bytes[reads == stage].sum() for stage in workflow.stage_names])
    busy = np.array([min(nodes, stage.tasks) for stage in workflow.stages])
    rate = np.outer(busy, NODE_MIB_S) * MIB
    rate[:, 0] = np.minimum(rate[:, 0], SHARED_LIMIT_MIB_S * MIB)
    waves = np.array([np.ceil(stage.tasks_per_node(nodes) / SLOTS) for stage in workflow.stages])
    compute_s = waves * np.array([made[name].compute_s for name in workflow.stage_names])
    copy_rate = np.minimum.outer(NODE_MIB_S, NODE_MIB_S) * MIB * nodes
    copy_s = edge_bytes[:, None, None] / copy_rate
    copy_s = np.where(np.eye(3, dtype=bool) & np.array(CATALOG.shared), 0.0, copy_s)
    tables = blank_tables(len(workflow.stages), len(CATALOG.tiers), len(workflow.edges))
    given = {
        "read": read_bytes[:, None] / rate,
        "write": output_bytes[:, None] / rate,
        "compute": compute_s,
        "stage_in": copy_s,
        "stage_out": copy_s,
    }
    for name, seconds in given.items():
        tables[name].seconds[...] = seconds
        tables[name].provenance[...] = Provenance.EXTRAPOLATED
        tables[name].log_sd[...] = CLAIMED_LOG_SD[name]
    return StageTimes(
        nodes=nodes,
        stages=workflow.stage_names,
        tiers=CATALOG.names,
        edges=workflow.edges,
        **tables,
        edge_bytes=edge_bytes,
        output_bytes=output_bytes,
        anchors=(),
        chunks=None,
        demand=None,
    )


def _true(
    foreseen: MakespanModel, place: Platform, habits: FloatArray, load: float, noise: FloatArray
) -> StageTimes:
    """Return the times that a run meets."""
    times, stages = foreseen.times, foreseen.workflow.stages
    on_node = np.array([min(SLOTS, stage.tasks_per_node(times.nodes)) for stage in stages])
    opened = np.array([stage.tasks_per_node(times.nodes) for stage in stages])
    shared = np.array(CATALOG.shared)
    crowd = 1.0 + place.contention * load * np.log1p(on_node)[:, None] * shared
    slower = crowd / place.efficiency
    copies = np.maximum.outer(1.0 / place.efficiency, 1.0 / place.efficiency) * (
        1.0 + place.contention * load
    )
    waiting_s = opened[:, None] / SLOTS * place.open_s
    return replace(
        times,
        read=replace(times.read, seconds=(times.read.seconds * slower + waiting_s) * noise[:, None]),
        write=replace(times.write, seconds=times.write.seconds * slower * noise[:, None]),
        compute=replace(times.compute, seconds=times.compute.seconds * habits / place.speed * noise),
        stage_in=replace(times.stage_in, seconds=times.stage_in.seconds * copies),
        stage_out=replace(times.stage_out, seconds=times.stage_out.seconds * copies),
    )
