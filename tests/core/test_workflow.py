"""The DAG template: what it refuses, its edges, its orders, its JSON."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, MAX_TASKS, Edge, Stage, Workflow
from qosflow_airflow.exceptions import WorkflowError
from tests.support.instances import random_workflow


def stage(name: str, level: int = 1, *predecessors: str, tasks: int = 1, final: bool = False) -> Stage:
    return Stage(name, level, tasks, dict.fromkeys(predecessors, ()), (), final)


GENOME = Workflow(
    "genome",
    (
        stage("individuals", 1, INITIAL_DATA, tasks=300),
        stage("merge", 2, "individuals", tasks=10),
        stage("sifting", 2, INITIAL_DATA, tasks=10, final=True),
        stage("overlap", 3, INITIAL_DATA, "merge", "sifting", tasks=10),
        stage("frequency", 3, "merge", "sifting", tasks=10),
    ),
)


def test_edges_name_the_outside_on_both_ends() -> None:
    assert GENOME.edges == (
        Edge(INITIAL_DATA, "individuals"),
        Edge("individuals", "merge"),
        Edge(INITIAL_DATA, "sifting"),
        Edge(INITIAL_DATA, "overlap"),
        Edge("merge", "overlap"),
        Edge("sifting", "overlap"),
        Edge("merge", "frequency"),
        Edge("sifting", "frequency"),
        Edge("sifting", FINAL_DATA),  # marked final, although others read it
        Edge("overlap", FINAL_DATA),  # nobody reads it
        Edge("frequency", FINAL_DATA),
    )


def test_names_levels_and_successors() -> None:
    assert GENOME.stage_names == ("individuals", "merge", "sifting", "overlap", "frequency")
    assert GENOME.levels == (1, 2, 3)
    assert GENOME.successors("merge") == ("overlap", "frequency")
    assert GENOME.successors("overlap") == ()
    assert GENOME.stage("overlap").stage_predecessors == ("merge", "sifting")
    assert GENOME.stage("overlap").reads_initial_data
    assert not GENOME.stage("merge").reads_initial_data


@pytest.mark.parametrize(("nodes", "expected"), [(1, 300), (2, 150), (7, 43), (300, 1), (1000, 1)])
def test_tasks_per_node_are_rounded_up_and_at_least_one(nodes: int, expected: int) -> None:
    assert GENOME.stage("individuals").tasks_per_node(nodes) == expected


def test_levels_need_not_begin_at_one_nor_be_consecutive() -> None:
    workflow = Workflow("gaps", (stage("a", 0), stage("b", 7, "a")))
    assert workflow.levels == (0, 7)


def test_stages_on_one_level_may_depend_on_each_other() -> None:
    workflow = Workflow("same level", (stage("b", 1, "a"), stage("a", 1)))
    assert workflow.topological_order == ("a", "b")


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((), "no stages"),
        ((stage("a"), stage("a")), "stage 'a': declared twice"),
        ((stage(""),), "'' cannot be the name of a stage"),
        ((stage(INITIAL_DATA),), "'initial_data' cannot be the name of a stage"),
        ((stage(FINAL_DATA),), "'final_data' cannot be the name of a stage"),
        ((stage("a", 1, "b"),), "predecessor 'b' is not a stage. Use one of a or initial_data."),
        ((stage("a", 1, FINAL_DATA),), "predecessor 'final_data' is not a stage"),
        ((stage("a", 1, "a"),), "the stages a form a cycle"),
        ((stage("a", 1, "c"), stage("b", 1, "a"), stage("c", 1, "b")), "the stages a, b, c form a cycle"),
        ((stage("a", 2), stage("b", 1, "a")), "level 1 is before level 2 of its predecessor 'a'"),
        ((stage("a", tasks=0),), "tasks is 0. "),
        ((stage("a", tasks=-3),), "tasks is -3"),
        ((stage("a", tasks=MAX_TASKS + 1),), "Give a whole number from 1 to 1,000,000."),
    ],
)
def test_what_is_no_dag_of_stages_is_refused(stages: tuple[Stage, ...], said: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        Workflow("broken", stages)
    assert said in str(caught.value)


def test_an_error_says_how_to_cure_it() -> None:
    with pytest.raises(WorkflowError, match=r"^stage 'a': tasks is 0\. Give a whole number"):
        Workflow("broken", (stage("a", tasks=0),))
    with pytest.raises(WorkflowError, match="the workflow has no name"):
        Workflow("", (stage("a"),))
    with pytest.raises(WorkflowError, match=r"has no stage 'merg'\. Use one of individuals, "):
        GENOME.stage("merg")


def test_the_largest_number_of_tasks_is_taken() -> None:
    assert Workflow("wide", (stage("a", tasks=MAX_TASKS),)).stages[0].tasks == MAX_TASKS


def test_json_keeps_everything() -> None:
    full = Workflow(
        "genome",
        (Stage("a", 0, 3, {INITIAL_DATA: ("x\\.vcf", "y"), "b": ()}, ("out.*",), final=True), stage("b", 0)),
        "what it does",
    )
    again = Workflow.from_json(json.loads(json.dumps(full.to_json())))
    assert again == full
    assert again.description == "what it does"
    assert again.edges == full.edges


@given(st.integers(0, 2**32).map(random.Random))
def test_any_workflow_survives_json(rng: random.Random) -> None:
    workflow = random_workflow(rng, stages=8)
    assert Workflow.from_json(json.loads(json.dumps(workflow.to_json()))) == workflow


@st.composite
def shuffled_dags(draw: st.DrawFn) -> Workflow:
    """A random DAG whose stages are declared in any order."""
    count = draw(st.integers(1, 8))
    edges = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=16))
    stages = []
    for position in draw(st.permutations(range(count))):
        producers = [f"s{a}" for a, b in sorted(edges) if b == position and a < b]
        stages.append(stage(f"s{position}", 1, *producers))
    return Workflow("dag", tuple(stages))


@given(shuffled_dags())
def test_topological_order_puts_every_stage_after_its_predecessors(workflow: Workflow) -> None:
    order = workflow.topological_order
    assert sorted(order) == sorted(workflow.stage_names)
    for found in workflow.stages:
        assert all(order.index(name) < order.index(found.name) for name in found.stage_predecessors)


@given(shuffled_dags(), st.data())
def test_closing_any_path_into_a_cycle_is_refused(workflow: Workflow, data: st.DataObject) -> None:
    edges = [edge for edge in workflow.edges if edge.consumer in workflow.index]
    inner = [edge for edge in edges if edge.producer in workflow.index]
    if not inner:
        return
    back = data.draw(st.sampled_from(inner))
    stages = [
        stage(
            found.name,
            1,
            *found.stage_predecessors,
            *([back.consumer] if found.name == back.producer else []),
        )
        for found in workflow.stages
    ]
    with pytest.raises(WorkflowError, match="cycle"):
        Workflow("cyclic", tuple(stages))


@given(shuffled_dags())
def test_every_stage_leads_to_the_outside(workflow: Workflow) -> None:
    for found in workflow.stages:
        is_read = bool(workflow.successors(found.name))
        assert (Edge(found.name, FINAL_DATA) in workflow.edges) == (not is_read)
