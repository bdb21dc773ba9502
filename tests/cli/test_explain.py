"""`qosflow explain`: of a request, of a configuration, of a kept recommendation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qosflow_airflow import pipeline
from qosflow_airflow.answers import answer_request
from qosflow_airflow.cli import BAD_INPUT, INFEASIBLE, OK, explain, main
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.examine import examine, parse_configuration
from qosflow_airflow.core.makespan_rules import COMPLETE, REFERENCE
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer import Provenance, StageTimes
from qosflow_airflow.exceptions import QoSFlowError
from qosflow_airflow.store.base import Store
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.model_folder import read_model_folder, write_model_folder
from tests.support.bundles import write_bundle
from tests.support.small_model import publish_model, small_catalog, small_workflow, stage_times

MOUNTS = {"disk": "/disk", "ram": "/ram"}
SLOW = "nodes=2,split=tmpfs,merge=disk,report=ssd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the small bundle at 2 and 4 nodes, with regions."""
    there = tmp_path_factory.mktemp("explain")
    pipeline.build_folder(write_bundle(there / "line"), BuildOptions(), there / "model")
    return there / "model"


def small_model(times: StageTimes | None = None) -> Model:
    workflow, catalog = small_workflow(), small_catalog(MOUNTS)
    return Model(workflow, catalog, COMPLETE, (ScaleModel(1, times or stage_times(workflow, catalog, 1)),))


def without_reads_of_merge_on_ram() -> Model:
    times = stage_times(small_workflow(), small_catalog(MOUNTS), 1)
    times.read.seconds[1, 1] = np.nan
    times.read.provenance[1, 1] = Provenance.UNKNOWN
    return small_model(times)


def explained(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["explain", "--model", str(folder), "--format", "json", *arguments])
    return json.loads(capsys.readouterr().out)


def section(text: str, title: str) -> list[str]:
    """The lines of a section, which ends at an empty line."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(title):
            break
    return [line.strip() for line in iter(lambda: next(lines, ""), "")]


def test_a_request_is_explained_by_its_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = QoSRequest(deadline_s=60.0, exclude=("tmpfs",))
    answer = recommend(read_model_folder(folder), request).answer
    assert explained(folder, capsys, "--deadline-s", "60", "--exclude", "tmpfs") == json.loads(
        json.dumps(answer)
    )
    arguments = ["explain", "--model", str(folder), "--deadline-s", "60", "--exclude", "tmpfs"]
    assert main(arguments) == OK
    said = capsys.readouterr().out
    assert said.startswith(answer["explanation"])
    assert section(said, "Rule:") == [answer["region"]["rule"]]
    parts = dict(line.rsplit(maxsplit=2)[:2] for line in section(said, "Where the time goes:")[1:5])
    assert {part: float(seconds) for part, seconds in parts.items()} == {
        part.replace("_io", " I/O"): round(seconds, 2) for part, seconds in answer["split_s"].items()
    }
    assert [line.split()[0] for line in section(said, "Stages:")[1:]] == ["split", "merge", "report"]
    assert section(said, "Seconds gained")[0].split() == ["stage", "disk", "ssd", "tmpfs"]


def test_the_card_holds_the_seconds_of_every_swap(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "--configuration", SLOW)
    assert main(["explain", "--model", str(folder), "--configuration", SLOW]) == OK
    said = capsys.readouterr().out
    heading, *rows = [line.split() for line in section(said, "Seconds gained")]
    shown = {row[0]: dict(zip(heading[1:], " ".join(row[1:]).split(" s "), strict=False)) for row in rows}
    assert set(shown) == set(found["swap_s"])
    for stage, changes in found["swap_s"].items():
        line = next(line for line in section(said, "Seconds gained") if line.startswith(f"{stage} "))
        assert "here" in line
        for seconds in changes.values():
            assert f"{seconds:+.2f} s" in line
    assert section(said, "What else it depends on:") == found["sensitivity"]["words"]


def test_a_configuration_stands_beside_the_best(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "--configuration", SLOW)
    model = read_model_folder(folder)
    assert found["status"] == "known"
    assert found["configuration"]["nodes"] == 2
    layout = model.space.layout(found["configuration"]["tiers"])
    assert found["makespan_s"] == model.makespans(2).makespan_s(layout)[0]
    best = recommend(model, QoSRequest())
    assert found["alternatives"][0]["makespan_s"] == best.answer["makespan_s"]
    assert found["alternatives"][0]["configuration"] == best.answer["configuration"]
    more_s = found["makespan_s"] - best.answer["makespan_s"]
    assert f"The best other configuration takes {more_s:.1f} s less." in found["explanation"]


def test_the_best_is_not_its_own_alternative() -> None:
    model = small_model()
    best = recommend(model, QoSRequest()).configuration
    assert best is not None
    found = examine(model, best)
    assert best.to_json() not in [other["configuration"] for other in found["alternatives"]]
    assert all(other["makespan_s"] >= found["makespan_s"] for other in found["alternatives"])
    assert "s more." in found["explanation"]


def test_what_is_infeasible_says_what_would_help(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--model", str(folder), "--deadline-s", "2"]) == INFEASIBLE
    said = capsys.readouterr().out
    assert said.startswith("Nothing is feasible.")
    answer = recommend(read_model_folder(folder), QoSRequest(deadline_s=2.0)).answer
    shown = section(said, "What would help:")
    assert len(shown) == len(answer["repairs"]) > 0
    for line, repair in zip(shown, answer["repairs"], strict=True):
        assert line.startswith(f"{repair['words']}: {repair['makespan_s']:.1f} s, ")
    assert section(said, "The nearest configuration:")[0].endswith(
        f": {answer['nearest']['makespan_s']:.1f} s"
    )


def test_what_is_not_measured_says_what_would_have_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model_folder(tmp_path / "model", without_reads_of_merge_on_ram(), [])
    unmeasured = ["--configuration", "nodes=1, split=disk, merge=ram"]
    found = explained(tmp_path / "model", capsys, *unmeasured)
    assert found["status"] == "unmeasured"
    assert found["missing"] == [{"nodes": 1, "part": "read", "stage": "merge", "tier": "ram"}]
    assert main(["explain", "--model", str(tmp_path / "model"), *unmeasured]) == OK
    said = capsys.readouterr().out
    assert "What would have to be measured: reading by merge on ram at 1 node." in said
    assert len(section(said, "Alternatives:")) == 3  # the heading, and the two that are measured
    # A swap that leads there is said to be unmeasured, and not left out.
    assert (
        main(
            ["explain", "--model", str(tmp_path / "model"), "--configuration", "nodes=1,split=ram,merge=disk"]
        )
        == OK
    )
    assert "not measured" in capsys.readouterr().out


def test_a_model_in_which_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = stage_times(small_workflow(), small_catalog(MOUNTS), 1)
    times.read.seconds[:] = np.nan
    times.read.provenance[:] = Provenance.UNKNOWN
    write_model_folder(tmp_path / "model", small_model(times), [])
    assert main(["explain", "--model", str(tmp_path / "model")]) == INFEASIBLE
    assert "no configuration has all the measurements it needs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ("nodes=2,split=disk", "no tier for merge, report. Name one for every stage."),
        ("split=disk,merge=disk,report=disk", "nodes is ''"),
        (
            "nodes=two,split=disk,merge=disk,report=disk",
            "nodes is 'two' in the configuration, not a whole number",
        ),
        ("nodes=3,split=disk,merge=disk,report=disk", "the model has no scale of 3 nodes. Use one of 2, 4."),
        ("nodes=2,splt=disk", "has no stage 'splt'. Use one of split, merge, report."),
        ("nodes=2,split=nvme", "unknown tier 'nvme'. Use one of disk, tmpfs, ssd."),
        ("nodes=2,split", "'split' in the configuration is not name=value"),
        (
            "nodes=2,split=disk,split=ssd",
            "'split=ssd' in the configuration is not name=value, or is given twice",
        ),
    ],
)
def test_a_wrong_configuration_is_one_line(
    folder: Path, configuration: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--model", str(folder), "--configuration", configuration]) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1


def test_one_thing_is_explained_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["explain", "--model", str(folder)]
    assert main([*model, "--configuration", SLOW, "--deadline-s", "5"]) == BAD_INPUT
    assert main(["explain", "--recommendation", "some", "--configuration", SLOW]) == BAD_INPUT
    assert main(["explain", "--recommendation", "some", "--max-nodes", "2"]) == BAD_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_what_the_rules_do_not_allow_is_named() -> None:
    workflow = small_workflow()
    tiers = (StorageTier("disk", True), StorageTier("ram", False), StorageTier("ssd", False))
    catalog = TierCatalog(tiers, "disk")
    model = Model(workflow, catalog, REFERENCE, (ScaleModel(1, stage_times(workflow, catalog, 1)),))
    with pytest.raises(QoSFlowError, match="from one local tier to another"):
        examine(model, Configuration(1, {"split": "ram", "merge": "ssd"}))
    assert examine(model, parse_configuration(model, "nodes=1,split=ram,merge=disk"))["status"] == "known"


@pytest.mark.parametrize("deadline_s", [None, 0.1])
def test_a_kept_recommendation_is_explained_as_it_was_given(
    deadline_s: float | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    publish_model(store, small_workflow(), small_catalog(MOUNTS))
    record, answer, _ = answer_request(store, "two", QoSRequest(deadline_s=deadline_s))

    @contextmanager
    def opened(_: object) -> Iterator[Store]:
        yield store

    monkeypatch.setattr(explain, "open_store", opened)
    code = main(["explain", "--recommendation", record.recommendation_id])
    assert code == (OK if deadline_s is None else INFEASIBLE)
    assert capsys.readouterr().out.startswith(answer.answer["explanation"])
    assert main(["explain", "--recommendation", record.recommendation_id, "--format", "json"]) == code
    assert json.loads(capsys.readouterr().out) == record.answer
    assert main(["explain", "--recommendation", "0" * 32]) == BAD_INPUT


def test_an_answer_of_an_older_version_is_explained_by_what_it_has() -> None:
    answer = dict(recommend(small_model(), QoSRequest()).answer)
    for name in ("sensitivity", "pareto", "interval", "repairs", "region"):
        answer.pop(name, None)
    lines = list(explain.explanation_lines(answer))
    assert lines[0] == answer["explanation"]
    assert "Where the time goes:" in lines
