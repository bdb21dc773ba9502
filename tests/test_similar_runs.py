"""From stored runs to cases: those that can be held against a model, and what an answer cites of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from qosflow_airflow.answers import answer_request, load_model, replay
from qosflow_airflow.cli import main
from qosflow_airflow.cli.ablation import generated
from qosflow_airflow.cli.exit_codes import OK
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.past_runs import PastRuns
from qosflow_airflow.similar_runs import known_runs, similar_runs
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.finished_runs import Observation
from qosflow_airflow.store.load import Load
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.payload import encode
from tests.support.small_model import publish_model, small_catalog, small_workflow

CATALOG = small_catalog({"disk": "/disk", "ram": "/ram"})


@pytest.fixture
def store() -> Store:
    kept = MemoryStore()
    for name in ("two", "four", "six"):
        publish_model(kept, replace(small_workflow(), name=name), CATALOG)
    return kept


def finished(store: Store, workflow: str, factor: float = 1.5, wait_s: float = 0.0) -> str:
    """Recommend, and tell a run in which everything took ``factor`` times its estimate."""
    record = answer_request(store, workflow, QoSRequest(max_nodes=1))[0]
    copies = {"split": (0.5, 0.0), "merge": (0.0, 0.5)}
    stages = {
        stage: {
            "measured_s": 2.0 * factor,
            "measured": {"stage_in_s": before_s * factor, "stage_out_s": after_s * factor},
        }
        for stage, (before_s, after_s) in copies.items()
    }
    store.add_outcome(record.recommendation_id, {"measured_s": 5.0 * factor + wait_s, "stages": stages})
    return record.recommendation_id


def asked(store: Store, calibrated_runs: int = 0, load: Load | None = None) -> Any:
    known = known_runs(PastRuns(store), "two", load_source=None if load is None else load.source)
    on_ram = {"nodes": 1, "tiers": {"split": "ram", "merge": "ram"}}
    return similar_runs(known, load_model(store, "two").model, on_ram, calibrated_runs, load=load)


def test_finished_runs_of_all_workflows_are_known_oldest_first(store: Store) -> None:
    order = [finished(store, name) for name in ("six", "two", "four", "two")]
    known = known_runs(PastRuns(store), "two")
    assert [run.run for run in known.runs] == order
    assert [run.workflow for run in known.runs] == ["six", "two", "four", "two"]
    assert {run.platform for run in known.runs} == {"disk+ram"}
    assert all(run.observed_s == pytest.approx(7.5) for run in known.runs)


def test_what_airflow_took_is_no_part_of_a_case(store: Store) -> None:
    finished(store, "two", wait_s=20.0)
    assert known_runs(PastRuns(store), "two").runs[0].observed_s == pytest.approx(7.5)


def test_similar_runs_are_cited_and_not_used_while_few_workflows_are_known(store: Store) -> None:
    identifier = finished(store, "two")
    citation = asked(store)
    assert citation.words.startswith("1 similar run: two on 1 node and ram: 7.5 s, 5 s predicted")
    assert not citation.used
    assert citation.to_json()["similar"][0]["run"] == identifier


def test_what_other_workflows_took_is_used_for_one_that_never_ran(store: Store) -> None:
    for name in ("four", "six") * 3:
        finished(store, name)
    assert not asked(store).used
    publish_model(store, replace(small_workflow(), name="eight"), CATALOG)
    for _ in range(3):
        finished(store, "eight")
    citation = asked(store)
    assert citation.used
    assert 1.3 < citation.factor < 1.5
    assert 1.0 < asked(store, calibrated_runs=20).factor < 1.1


def test_runs_on_hosts_as_busy_are_more_similar_where_the_load_is_known(store: Store) -> None:
    identifiers = [finished(store, "two") for _ in range(3)]
    for identifier, load in zip(identifiers, (0.1, 0.5, 0.9), strict=True):
        told = {"start_s": 0.0, "end_s": 3.0, "load": load, "load_source": "host"}
        counts = {"split": 3, "merge": 1}
        store.add_observations(
            [
                Observation(identifier, stage, at, 1, "success", count=count, **told)
                for stage, count in counts.items()
                for at in range(count)
            ]
        )
    busy, idle = (asked(store, load=Load(one, "host")) for one in (0.95, 0.05))
    assert [one.case.run for one in busy.neighbourhood.found] == identifiers[::-1]
    assert [one.case.run for one in idle.neighbourhood.found] == identifiers
    # Nobody knows it, or another source does: then it is not compared, and that is said.
    for unknown in (None, Load(0.95, "prometheus")):
        citation = asked(store, load=unknown)
        assert "load" in citation.neighbourhood.not_compared
        assert len({one.similarity for one in citation.neighbourhood.found}) == 1


def test_runs_that_no_model_knows_are_left_out_and_named(store: Store) -> None:
    good = finished(store, "two")
    bad = answer_request(store, "two", QoSRequest(max_nodes=1))[0].recommendation_id
    store.add_outcome(bad, {"measured_s": "long", "stages": {}})
    # The newest model of a workflow is what runs are held against: one without the tier that was used.
    of_other = finished(store, "four")
    publish_model(store, replace(small_workflow(), name="four"), CATALOG.select(["disk"]))
    known = known_runs(PastRuns(store), "two")
    assert [run.run for run in known.runs] == [good]
    assert "cannot be read" in known.left_out[bad]
    assert known.left_out[of_other] == "a configuration that the model does not know"


def test_an_answer_cites_what_is_similar_and_is_made_again_byte_for_byte(store: Store) -> None:
    first = answer_request(store, "two", QoSRequest(max_nodes=1))[0]
    assert "cases" not in first.answer
    identifiers = [finished(store, "two") for _ in range(3)]
    record = answer_request(store, "two", QoSRequest(max_nodes=1))[0]
    cases = record.answer["cases"]
    assert {one["run"] for one in cases["similar"]} == set(identifiers)
    assert cases["makespan_s"] is None
    assert "3 similar runs: two on 1 node and ram: 7.5 s" in record.answer["explanation"]
    finished(store, "four", factor=3.0)  # what is learnt later changes nothing of what was said
    kept, again = replay(store, record.recommendation_id)
    assert encode(kept.answer, "answer") == encode(again, "answer")


def test_an_answer_says_what_similar_runs_make_of_it(store: Store) -> None:
    publish_model(store, replace(small_workflow(), name="eight"), CATALOG)
    for name in ("four", "six", "eight") * 3:
        finished(store, name)
    answer = answer_request(store, "two", QoSRequest(max_nodes=1, deadline_s=6.0))[0].answer
    cases = answer["cases"]
    assert cases["used"]
    assert cases["makespan_s"] == pytest.approx(answer["makespan_s"] * cases["factor"])
    assert f"By them it takes {cases['makespan_s']:.1f} s." in answer["explanation"]
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer


def test_a_request_that_cannot_be_met_cites_what_is_nearest(store: Store) -> None:
    finished(store, "two")
    record = answer_request(store, "two", QoSRequest(deadline_s=0.5))[0]
    assert record.status == "infeasible"
    assert record.answer["cases"]["similar"]


def test_a_model_that_cannot_be_read_is_no_reason_to_fail(store: Store) -> None:
    for name in ("two", "four"):
        finished(store, name)
    build_id = store.create_build("four", {}, {})
    for kind in ("model", "regions"):
        store.put_part(build_id, kind, None, b'{"format": 99}')
    store.publish(build_id, {}, [("model", None), ("regions", None)], qosflow_version="later")
    assert [run.workflow for run in known_runs(PastRuns(store), "two").runs] == ["two"]


def test_nothing_is_known_without_runs(store: Store) -> None:
    assert known_runs(PastRuns(store), "two").runs == ()
    assert asked(store).words == "No similar runs."


def test_looking_for_cases_imports_neither_pandas_nor_scikit_learn() -> None:
    heavy = ("pandas", "sklearn", "scipy")
    code = f"import sys, qosflow_airflow.similar_runs; print([n for n in {heavy} if n in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_layers_are_judged_on_runs_that_are_made_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--ablation", "--generated", "--format", "json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert "nothing here was measured" in found["source"]
    rows = {(row["runs_of"], row["layer"]): row for row in found["rows"]}
    known = [rows["known", layer]["median_error"] for layer in ("I/O model", "x calibration")]
    assert known[1] < known[0]
    assert 0.8 < rows["all", "x cases"]["coverage"] <= 1
    own, answered = (
        rows["all", f"x calibration, interval {how}"] for how in ("by its own spread", "as answered")
    )
    assert own["coverage"] < answered["coverage"] <= 1
    assert generated(30) == generated(30)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--generated"], "Add --ablation"),
        (["--validation", "x"], "Add --ablation"),
        (["--ablation", "--validation", "nowhere"], "nowhere"),
        (["--ablation", "--model", "x"], "Give --workflow"),
        (["--ablation", "--generated", "--plot", "x.svg"], "no plot"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *given]) != OK
    assert said in capsys.readouterr().err
