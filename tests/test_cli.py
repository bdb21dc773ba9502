"""The ``qosflow`` command: exit codes, tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qosflow_airflow import __version__, pipeline
from qosflow_airflow.cli import BAD_INPUT, INFEASIBLE, OK, main
from qosflow_airflow.core.build_options import BuildOptions
from tests.support.bundles import profile, write_bundle

DATABASE_VARIABLES = ("QOSFLOW_DATABASE_URL", "AIRFLOW_CONN_QOSFLOW_DEFAULT")


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DATABASE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run_it(*arguments: object) -> Said:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stopped:  # argparse: usage errors and --help
            code = int(stopped.code or 0)
        return Said(code, *capsys.readouterr())

    return run_it


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "line")


@pytest.fixture(scope="module")
def model(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "line"
    pipeline.build_folder(bundle, BuildOptions(), folder)
    return folder


class TestBuild:
    def test_it_writes_a_folder_and_says_how_far_it_is(self, run: Run, bundle: Path, tmp_path: Path) -> None:
        said = run("build", bundle, "--scales", "2", "--tiers", "disk,tmpfs", "--output", tmp_path / "m")
        assert said.code == OK
        assert said.out == f"wrote {tmp_path / 'm'}\n"
        assert said.err.splitlines()[0] == "line: 1 scales, anchored on 7 traced tasks"
        assert said.err.splitlines()[1].startswith("2 nodes: 8 configurations, ")
        assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
            "configurations.csv",
            "model.json",
            "regions.json",
        ]

    def test_another_name(self, run: Run, bundle: Path, tmp_path: Path) -> None:
        arguments = ("--scales", "2", "--tiers", "disk", "--name", "renamed", "--output", tmp_path / "m")
        assert run("build", bundle, *arguments).code == OK
        assert json.loads((tmp_path / "m" / "model.json").read_text())["workflow"]["name"] == "renamed"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--scales", "two"], "scales is 'two'. Give whole numbers, as in 2,5,10."),
            (["--scales", "0"], "a scale of 0 nodes. Give whole numbers from 1 to 100,000."),
            (["--scales", ","], "no scales are known"),
            (["--tiers", "disk,nvme"], "unknown tier 'nvme'"),
            (["--transfer-times", "nowhere.csv"], "nowhere.csv: cannot be read"),
        ],
    )
    def test_a_wrong_option_is_one_line_on_stderr(
        self, run: Run, bundle: Path, tmp_path: Path, arguments: list[str], said: str
    ) -> None:
        found = run("build", bundle, *arguments, "--output", tmp_path / "m")
        assert found.code == BAD_INPUT
        assert found.out == ""
        assert found.err.startswith("qosflow: error: ")
        assert said in found.err
        assert len(found.err.splitlines()) == 1
        assert not (tmp_path / "m").exists()

    def test_a_wrong_file_is_named_with_its_line_and_column(self, run: Run, tmp_path: Path) -> None:
        broken = write_bundle(tmp_path / "b", profile=profile().replace("write,0", "write,0,", 1))
        found = run("build", broken, "--output", tmp_path / "m")
        assert found.code == BAD_INPUT
        assert f"{broken / 'profile.csv'}, line 20: has 12 columns, not 11." in found.err
        broken = write_bundle(tmp_path / "b", profile=profile().replace(",1000,2,-1,", ",much,2,-1,", 1))
        found = run("build", broken, "--output", tmp_path / "m")
        assert f"{broken / 'profile.csv'}, line 5, column 'aggregateFilesizeMB': is 'much'" in found.err

    def test_a_bundle_that_is_not_there(self, run: Run, tmp_path: Path) -> None:
        found = run("build", tmp_path / "none", "--output", tmp_path / "m")
        assert found.code == BAD_INPUT
        assert f"{tmp_path / 'none'}: is not a folder" in found.err

    def test_where_the_model_goes_must_be_said_once(self, run: Run, bundle: Path, tmp_path: Path) -> None:
        assert run("build", bundle).code == BAD_INPUT
        assert run("build", bundle, "--store", "--output", tmp_path / "m").code == BAD_INPUT

    def test_an_unknown_rule_set(self, run: Run, bundle: Path, tmp_path: Path) -> None:
        found = run("build", bundle, "--rules", "published", "--output", tmp_path / "m")
        assert found.code == BAD_INPUT
        assert "'complete'" in found.err


class TestRecommend:
    def test_text_has_the_reason_and_a_table_of_stages(self, run: Run, model: Path) -> None:
        said = run("recommend", "--model", model, "--deadline-s", "60")
        assert said.code == OK
        lines = said.out.splitlines()
        assert lines[0].startswith("Use ")
        assert "s before the deadline" in lines[0]
        header = next(line for line in lines if line.startswith("stage "))
        assert header.split() == ["stage", "tier", "stage", "in", "read", "compute", "write", "stage", "out"]
        for stage in ("split", "merge", "report"):
            assert any(line.startswith(f"{stage} ") and " s " in line for line in lines)
        assert any(line.startswith("Region: ") for line in lines)
        assert said.err == ""

    def test_json_has_the_configuration_its_makespan_and_its_region(self, run: Run, model: Path) -> None:
        said = run(
            "recommend", "--model", model, "--pin", "split=ssd", "--pin", "merge=tmpfs", "--format", "json"
        )
        answer = json.loads(said.out)
        assert said.code == OK
        assert answer["status"] == "feasible"
        assert answer["configuration"]["tiers"]["split"] == "ssd"
        assert answer["configuration"]["tiers"]["merge"] == "tmpfs"
        assert answer["makespan_s"] > 0
        assert answer["region"]["rule"]
        assert answer["explanation"]

    def test_every_option_reaches_the_request(self, run: Run, model: Path) -> None:
        said = run(
            "recommend", "--model", model, "--format", "json", "--deadline-s", "1e3", "--max-nodes", "2",
            "--allow", "disk,ssd", "--exclude", "tmpfs", "--pin", "report=disk", "--objective", "cost",
            "--max-node-hours", "7", "--max-cost", "1e6",
        )  # fmt: skip
        assert json.loads(said.out)["request"] == {
            "deadline_s": 1000.0,
            "max_nodes": 2,
            "allow": ["disk", "ssd"],
            "exclude": ["tmpfs"],
            "pin": {"report": "disk"},
            "objective": "cost",
            "confidence": None,
            "max_node_hours": 7.0,
            "max_cost": 1e6,
        }

    def test_numbers_of_tasks_are_chosen_and_said(self, run: Run, model: Path) -> None:
        asked = ("--max-chunks", "merge=8", "--max-chunks", "report=2")
        plain, found = (
            json.loads(run("recommend", "--model", model, "--format", "json", *more).out)
            for more in ((), asked)
        )
        assert found["makespan_s"] < plain["makespan_s"]
        assert found["chunks"]["merge"]["by"] == "model"
        for command in ("recommend", "explain"):
            said = run(command, "--model", model, *asked).out
            assert f"merge in {found['chunks']['merge']['chunks']} tasks instead of 2: least time" in said
        assert run("recommend", "--model", model, "--max-chunks", "merge=many").code == BAD_INPUT
        alone = json.loads(
            run("recommend", "--model", model, "--format", "json", "--layers", "none", *asked).out
        )
        assert alone == plain

    def test_nothing_feasible_has_its_own_exit_code_and_says_what_binds(self, run: Run, model: Path) -> None:
        said = run("recommend", "--model", model, "--deadline-s", "0.001", "--format", "json")
        assert said.code == INFEASIBLE
        answer = json.loads(said.out)
        assert answer["status"] == "infeasible"
        assert answer["binding"] == ["deadline_s"]
        text = run("recommend", "--model", model, "--deadline-s", "0.001")
        assert text.code == INFEASIBLE
        assert text.out.startswith("Nothing is feasible. What stands in the way: deadline_s = 0.001.")
        assert "\nsplit " in text.out

    def test_what_would_help_is_listed_and_helps(self, run: Run, model: Path) -> None:
        said = run("recommend", "--model", model, "--deadline-s", "0.001", "--format", "json")
        repairs = json.loads(said.out)["repairs"]
        assert [set(repair["changes"]) for repair in repairs] == [{"deadline_s"}]
        text = run("recommend", "--model", model, "--deadline-s", "0.001").out
        assert f"\n{repairs[0]['words']}  " in text
        again = run("recommend", "--model", model, "--deadline-s", str(repairs[0]["changes"]["deadline_s"]))
        assert again.code == OK

    def test_a_contradiction_is_named_with_either_way_out(self, run: Run, model: Path) -> None:
        arguments = ("--exclude", "ssd", "--pin", "split=ssd")
        said = run("recommend", "--model", model, *arguments)
        assert said.code == INFEASIBLE
        assert "What stands in the way: exclude = ssd, pin = split on ssd." in said.out
        assert "What would help: split no longer pinned; or ssd no longer excluded." in said.out
        nothing = run("recommend", "--model", model, "--allow", "disk", "--exclude", "disk")
        assert nothing.code == INFEASIBLE
        assert "disk no longer excluded" in nothing.out

    def test_trade_offs_and_what_the_answer_depends_on_are_shown(self, run: Run, model: Path) -> None:
        said = run("recommend", "--model", model)
        answer = json.loads(run("recommend", "--model", model, "--format", "json").out)
        assert len(answer["pareto"]["points"]) > 1
        heading = next(line for line in said.out.splitlines() if line.startswith("makespan "))
        assert heading.split() == ["makespan", "node-hours", "cost", "trade-off"]
        assert said.out.count("knee") == 1
        assert "% slower " in said.out
        for words in answer["sensitivity"]["words"]:
            assert f"\n{words}" in said.out

    def test_a_budget_and_a_balance_move_the_answer_along_the_trade_offs(self, run: Run, model: Path) -> None:
        def asked(*arguments: str) -> Any:
            return json.loads(run("recommend", "--model", model, "--format", "json", *arguments).out)

        points = asked()["pareto"]["points"]
        frugal = asked("--max-node-hours", repr(points[-1]["node_hours"]))
        assert frugal["configuration"] == points[-1]["configuration"]
        balanced = asked("--objective", "balanced")
        assert balanced["configuration"] in [point["configuration"] for point in points]
        cheap = asked("--max-cost", repr(points[-1]["cost"]))
        assert cheap["configuration"] == points[-1]["configuration"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--deadline-s", "soon"], "deadline_s is 'soon', not a number."),
            (["--deadline-s", "0"], "deadline_s is 0.0."),
            (["--deadline-s=-5"], "deadline_s is -5.0."),
            (["--max-nodes", "1.5"], "max_nodes is '1.5', not a whole number."),
            (["--allow", "nvme"], "unknown tier 'nvme'. Use one of disk, tmpfs, ssd."),
            (["--exclude", "nvme"], "unknown tier 'nvme'."),
            (["--allow", ","], "allow is empty."),
            (["--max-node-hours", "0"], "max_node_hours is 0.0."),
            (["--max-cost", "cheap"], "max_cost is 'cheap', not a number."),
            (["--pin", "split"], "pin 'split' is not stage=tier."),
            (["--pin", "sort=ssd"], "workflow 'line' has no stage 'sort'."),
            (["--pin", "split=ssd", "--pin", "split=disk"], "stage 'split' is pinned to 'ssd' and 'disk'."),
        ],
    )
    def test_a_wrong_request_is_one_line_on_stderr(
        self, run: Run, model: Path, arguments: list[str], said: str
    ) -> None:
        found = run("recommend", "--model", model, *arguments)
        assert found.code == BAD_INPUT
        assert found.out == ""
        assert found.err.startswith(f"qosflow: error: {said}")
        assert len(found.err.splitlines()) == 1

    def test_a_model_that_is_not_there_or_damaged(self, run: Run, tmp_path: Path) -> None:
        found = run("recommend", "--model", tmp_path)
        assert found.code == BAD_INPUT
        assert f"{tmp_path / 'model.json'}: is missing" in found.err
        (tmp_path / "model.json").write_text("{")
        found = run("recommend", "--model", tmp_path)
        assert found.code == BAD_INPUT
        assert len(found.err.splitlines()) == 1

    def test_an_empty_value_asks_for_nothing(self, run: Run, model: Path) -> None:
        said = run("recommend", "--model", model, "--deadline-s", "", "--max-nodes", "", "--format", "json")
        assert json.loads(said.out)["request"]["deadline_s"] is None


class TestEvaluate:
    def test_json_has_policies_and_regions_per_scale(self, run: Run, model: Path) -> None:
        said = run("evaluate", "--model", model, "--format", "json")
        assert said.code == OK
        scales = json.loads(said.out)["scales"]
        assert set(scales) == {"2", "4"}
        for found in scales.values():
            assert set(found["policies"]) == {"FSF", "LTL", "Hybrid"}
            for figures in found["policies"].values():
                assert 0 <= figures["concordance"] <= figures["concordance_published"] <= 1
            assert found["regions"]["count"] >= 1
            assert 0 <= found["regions"]["concordance_held_out"] <= 1
            assert found["regions"]["mae_held_out_s"] >= 0

    def test_text_has_a_row_per_scale_and_ordering(self, run: Run, model: Path) -> None:
        said = run("evaluate", "--model", model)
        assert said.code == OK
        rows = [line.split() for line in said.out.splitlines()]
        assert rows[0][:3] == ["nodes", "ordering", "concordance"]
        assert [row[:2] for row in rows[1:9]] == [
            [nodes, ordering] for nodes in ("2", "4") for ordering in ("FSF", "LTL", "Hybrid", "regions")
        ]
        assert all(0 <= float(row[2]) <= 1 for row in rows[1:9])


class TestHelp:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], ["build", "recommend", "evaluate", "models", "db"]),
            (
                ["build"],
                ["BUNDLE", "--scales", "--tiers", "--rules", "--transfer-times", "--output", "--store"],
            ),
            (["recommend"], ["--model", "--workflow", "--deadline-s", "--pin", "node_hours"]),
            (["evaluate"], ["--model", "--format", "held out"]),
            (["models"], ["--workflow", "newest first"]),
            (["db"], ["upgrade", "status"]),
            (["db", "upgrade"], ["QOSFLOW_DATABASE_URL"]),
        ],
    )
    def test_help_names_what_there_is(self, run: Run, arguments: list[str], words: list[str]) -> None:
        said = run(*arguments, "--help")
        assert said.code == OK
        text = " ".join(said.out.split())
        for word in words:
            assert word in text

    def test_version(self, run: Run) -> None:
        assert run("--version").out == f"{__version__}\n"

    @pytest.mark.parametrize(
        "arguments", [[], ["guess"], ["recommend"], ["db"], ["recommend", "--modell", "x"]]
    )
    def test_usage_errors(self, run: Run, arguments: list[str]) -> None:
        said = run(*arguments)
        assert said.code == BAD_INPUT
        assert said.err.startswith("usage: qosflow")


class TestDatabase:
    def test_without_a_url(self, run: Run) -> None:
        for arguments in (["models"], ["db", "status"], ["recommend", "--workflow", "line"]):
            found = run(*arguments)
            assert found.code == BAD_INPUT
            assert found.err == (
                "qosflow: error: no database is named. Give --database-url, or set QOSFLOW_DATABASE_URL.\n"
            )

    def test_one_that_cannot_be_reached(self, run: Run) -> None:
        found = run("models", "--database-url", "postgresql://nobody:hunter2@127.0.0.1:1/none")
        assert found.code == BAD_INPUT
        assert len(found.err.splitlines()) == 1
        assert "hunter2" not in found.err

    @pytest.mark.parametrize("url", ["not a url", "mysql://u@h/d", "postgresql://u@h:port/d"])
    def test_one_that_is_no_postgres(self, run: Run, url: str) -> None:
        found = run("db", "status", "--database-url", url)
        assert found.code == BAD_INPUT
        assert found.err.startswith("qosflow: error: ")
        assert "Traceback" not in found.err

    @pytest.mark.system
    def test_from_empty_to_an_answer(
        self, run: Run, bundle: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QOSFLOW_DATABASE_URL", database_url)
        before = run("db", "status")
        assert before.code == OK
        assert "pending" in before.out
        assert "applied" not in before.out
        early = run("models")
        assert early.code == BAD_INPUT
        assert "qosflow db upgrade" in early.err

        assert run("db", "upgrade").out.startswith("applied ")
        assert run("db", "upgrade").out == "already up to date\n"
        assert "pending" not in run("db", "status").out
        assert run("models").out.startswith("no models yet")
        assert run("models", "--format", "json").out == "[]\n"

        built = [run("build", bundle, "--scales", "2", "--store") for _ in range(2)]
        assert [said.out.split(":")[0] for said in built] == ["line version 1", "line version 2"]
        rows = [line.split() for line in run("models", "--workflow", "line").out.splitlines()]
        assert [row[:2] for row in rows[1:]] == [["line", "2"], ["line", "1"]]
        listed = json.loads(run("models", "--format", "json").out)
        assert [found["version"] for found in listed] == [2, 1]
        assert listed[0]["model_id"] in built[1].out
        assert set(listed[0]["inputs"]) == {"workflow.yaml", "tiers.yaml", "observations.csv", "profile.csv"}

        answer = run("recommend", "--workflow", "line", "--format", "json")
        assert answer.code == OK
        assert json.loads(answer.out)["configuration"]["nodes"] == 2
        assert run("recommend", "--workflow", "line", "--deadline-s", "0.001").code == INFEASIBLE
        assert run("evaluate", "--workflow", "line").code == OK
        unknown = run("recommend", "--workflow", "other")
        assert unknown.code == BAD_INPUT
        assert "'other'" in unknown.err


def program(*arguments: object, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own, with Python's usual buffers."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    script = "import sys; from qosflow_airflow.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=environment
    )


@pytest.mark.parametrize("form", ["text", "json"])  # less and more than fits into the buffer
def test_a_reader_that_has_gone_away_is_no_error(model: Path, form: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = program("recommend", "--model", model, "--format", form, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (OK, "")


def test_a_program_exits_with_its_code(model: Path) -> None:
    assert program("recommend", "--model", model).returncode == OK
    late = program("recommend", "--model", model, "--deadline-s", "0.001")
    assert (late.returncode, late.stderr) == (INFEASIBLE, "")
    wrong = program("recommend", "--model", model, "--deadline-s", "soon")
    assert (wrong.returncode, wrong.stdout) == (BAD_INPUT, "")


def test_asking_a_folder_imports_neither_airflow_nor_the_database_nor_pandas(model: Path) -> None:
    script = (
        "import sys; from qosflow_airflow.cli import main; "
        f"main(['recommend', '--model', {str(model)!r}]); "
        "heavy = {'airflow', 'psycopg2', 'sklearn', 'pandas', 'scipy'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
