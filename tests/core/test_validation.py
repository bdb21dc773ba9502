"""Predicted against executed: figures by hand, and terms that add up to the whole error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import COMPLETE
from qosflow_airflow.core.measured_run import (
    TERMS,
    CopyParts,
    MeasuredRun,
    StageParts,
    error_terms,
    stage_parts,
)
from qosflow_airflow.core.space import ConfigurationSpace
from qosflow_airflow.core.transfer import StageTimes
from qosflow_airflow.core.validation import goals_met, report_card, validated
from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA, Edge
from qosflow_airflow.exceptions import MeasurementError
from tests.support.small_model import small_catalog, small_workflow, stage_times

DISK, RAM = 0, 1
BYTES = {("split", "read"): 100.0, ("split", "write"): 100.0, ("merge", "read"): 100.0}


def makespans(log_sd: float = 0.1) -> MakespanModel:
    workflow, catalog = small_workflow(), small_catalog({"disk": "/d", "ram": "/r"})
    times = stage_times(workflow, catalog, 1)
    for name in ("read", "write", "compute", "stage_in", "stage_out"):
        getattr(times, name).log_sd[...] = log_sd
    return MakespanModel(workflow, catalog, with_bytes(times), COMPLETE)


def with_bytes(times: StageTimes) -> StageTimes:
    return replace(times, edge_bytes=np.full(len(times.edges), 100.0))


MODEL = makespans()


def run(layout: tuple[int, ...], factor: float = 1.0, moved: float = 1.0) -> MeasuredRun:
    """A run whose every part took ``factor`` times what was predicted."""
    times, names = MODEL.times, MODEL.times.stages
    stages = {
        stage: StageParts(
            factor * float(times.read.seconds[s, layout[s]]),
            0.0,
            factor * float(times.write.seconds[s, layout[s]]),
            100.0 * moved,
            100.0 * moved,
        )
        for s, stage in enumerate(names)
    }
    copies = {}
    for edge in times.edges:
        ends = [layout[names.index(name)] if name in names else DISK for name in edge]
        if MODEL.charged_legs(edge, *ends):
            copies[edge] = CopyParts(factor * 0.5, 100.0 * moved)
    predicted = float(MODEL.makespan_s(np.array([layout], dtype=np.int8))[0])
    return MeasuredRun(layout, factor * predicted, stages, copies)


LAYOUTS = [
    tuple(map(int, row)) for row in ConfigurationSpace(MODEL.workflow, MODEL.catalog, COMPLETE).layouts()
]


def test_a_stages_wall_clock_is_split_as_its_tasks_spent_it() -> None:
    tasks = [
        {"stage": "a", "start_s": 10.0, "end_s": 14.0, "read_s": 1.0, "write_s": 1.0, "files": []},
        {
            "stage": "a",
            "start_s": 12.0,
            "end_s": 16.0,
            "read_s": 3.0,
            "write_s": 0.0,
            "files": [{"operation": "read", "bytes": 7}, {"operation": "write", "bytes": 5}],
        },
    ]
    found = stage_parts(tasks)["a"]
    assert found == StageParts(6 * 4 / 8, 6 * 3 / 8, 6 * 1 / 8, 7, 5)
    assert found.read_s + found.compute_s + found.write_s == 6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_as_predicted_has_no_error_in_any_term(layout: tuple[int, ...]) -> None:
    assert error_terms(MODEL, run(layout), BYTES) == pytest.approx(dict.fromkeys(TERMS, 0.0), abs=1e-12)


def test_each_kind_of_error_is_told_from_the_others() -> None:
    exact = run((DISK, RAM))
    slow_io = run((DISK, RAM), factor=2.0)
    terms = error_terms(MODEL, slow_io, BYTES)
    assert terms["rate"] == pytest.approx(exact.makespan_s - slow_io.makespan_s)
    assert terms["volume"] == terms["compute"] == pytest.approx(terms["schedule"], abs=1e-9)

    more = run((DISK, RAM), factor=2.0, moved=2.0)
    assert error_terms(MODEL, more, BYTES)["volume"] == pytest.approx(-exact.stages["split"].read_s
        - exact.stages["split"].write_s - exact.stages["merge"].read_s - 0.5 * len(exact.copies))  # fmt: skip

    merge = exact.stages["merge"]
    computing = replace(
        exact,
        makespan_s=exact.makespan_s + 3,
        stages={**exact.stages, "merge": merge._replace(compute_s=3.0)},
    )
    assert error_terms(MODEL, computing, BYTES)["compute"] == pytest.approx(-3)

    waiting = replace(exact, makespan_s=exact.makespan_s + 1)
    assert error_terms(MODEL, waiting, BYTES)["schedule"] == pytest.approx(-1)


@given(
    st.sampled_from(LAYOUTS),
    st.floats(0.1, 10),
    st.floats(0.1, 10),
    st.floats(0.1, 100),
    st.floats(0, 5),
)
def test_terms_add_up_to_the_whole_error(
    layout: tuple[int, ...], factor: float, moved: float, makespan_s: float, compute_s: float
) -> None:
    found = run(layout, factor, moved)
    stages = {name: parts._replace(compute_s=compute_s) for name, parts in found.stages.items()}
    found = replace(found, stages=stages, makespan_s=makespan_s)
    predicted = float(MODEL.makespan_s(np.array([layout], dtype=np.int8))[0])
    assert sum(error_terms(MODEL, found, BYTES).values()) == pytest.approx(predicted - makespan_s, abs=1e-9)


def test_the_figures_of_a_card_by_hand() -> None:
    layouts = LAYOUTS[:3]
    predicted = [float(MODEL.makespan_s(np.array([layout], dtype=np.int8))[0]) for layout in layouts]
    runs = [replace(run(layouts[0]), makespan_s=predicted[0] * factor) for factor in (1.0, 1.1, 1.2)]
    runs += [replace(run(layouts[1]), makespan_s=predicted[1] * 2.0)]
    runs += [replace(run(layouts[2]), makespan_s=predicted[2])]
    card = report_card(MODEL, validated(MODEL, runs), BYTES)
    assert (card["configurations"], card["runs"]) == (3, 5)
    assert card["median_error"] == pytest.approx(1 - 1 / 1.1)
    assert card["bias"] == pytest.approx(1 / 1.1 - 1)
    assert card["p90_error"] == pytest.approx(np.quantile([1 - 1 / 1.1, 0.5, 0.0], 0.9))
    assert card["repeat_error"] == pytest.approx(np.median([0.1 / 1.1, 0, 0.1 / 1.1]))
    assert card["repeat_concordance"] is None, "one configuration was run twice"
    # the interval is about 16 % to each side or less: 1.0 and 1.1 are inside, 2.0 is not
    assert 0.4 <= card["coverage_90"] <= 0.8


def test_pairs_that_the_machine_does_not_order_itself_are_told_apart() -> None:
    layouts = LAYOUTS[:3]

    def twice(layout: tuple[int, ...], *seconds: float) -> list[MeasuredRun]:
        return [replace(run(layout), makespan_s=one) for one in seconds]

    order = sorted(layouts, key=lambda layout: float(MODEL.makespan_s(np.array([layout], dtype=np.int8))[0]))
    # the first and the second overlap, the last is slower in every run, and is predicted so
    runs = [*twice(order[0], 5.0, 7.0), *twice(order[1], 4.0, 6.0), *twice(order[2], 9.0, 9.5)]
    card = report_card(MODEL, validated(MODEL, runs), BYTES)
    assert card["resolved_pairs"] == pytest.approx(2 / 3)
    assert card["resolved_concordance"] == 1.0
    single = report_card(MODEL, validated(MODEL, [run(layout) for layout in LAYOUTS]), BYTES)
    assert single["resolved_concordance"] is None


def test_what_storage_decides_is_judged_apart_from_computing() -> None:
    stages = run(LAYOUTS[0]).stages
    # every run computes for as long as nobody foresaw, each another time; I/O is as predicted
    runs = [
        replace(
            run(layout),
            makespan_s=run(layout).makespan_s + 10.0 * (number % 2),
            stages={
                name: parts._replace(compute_s=10.0 * (number % 2) if name == "merge" else 0.0)
                for name, parts in run(layout).stages.items()
            },
        )
        for number, layout in enumerate(LAYOUTS)
    ]
    assert stages.keys() == runs[0].stages.keys()
    card = report_card(MODEL, validated(MODEL, runs), BYTES)
    assert card["concordance"] < 1
    assert card["storage_concordance"] == 1.0
    assert card["storage_median_error"] == pytest.approx(0, abs=1e-9)


def test_perfect_predictions_meet_the_goals_but_for_intervals_that_say_too_little() -> None:
    card = report_card(MODEL, validated(MODEL, [run(layout) for layout in LAYOUTS]), BYTES)
    assert (card["concordance"], card["median_error"], card["coverage_90"]) == (1.0, pytest.approx(0), 1.0)
    assert goals_met(card) == {"concordance": True, "median_error": True, "coverage_90": False}
    assert all(kind["ratio"] == pytest.approx(1) for kind in card["predicted_over_measured"].values())
    assert {"read disk", "write ram", "copy disk-ram"} <= card["predicted_over_measured"].keys()


def test_without_intervals_there_is_no_coverage() -> None:
    unsure = makespans(math.nan)
    card = report_card(unsure, validated(unsure, [run(layout) for layout in LAYOUTS]), BYTES)
    assert card["coverage_90"] is None
    assert not goals_met(card)["coverage_90"]


def test_one_configuration_says_nothing_of_an_order() -> None:
    with pytest.raises(MeasurementError, match="fewer than two"):
        report_card(MODEL, validated(MODEL, [run(LAYOUTS[0])]), BYTES)


def test_copies_are_found_by_their_edges() -> None:
    assert set(run((RAM, RAM)).copies) == {Edge(INITIAL_DATA, "split"), Edge("merge", FINAL_DATA)}
