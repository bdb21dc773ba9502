"""The published rules, through the command line, against every makespan that the public artifact gives."""

from __future__ import annotations

import csv
import gzip
import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.cli import main
from qosflow_airflow.cli.exit_codes import INFEASIBLE, OK

pytestmark = pytest.mark.reference

WORKFLOWS = {"1kgenome": 261, "ddmd": 111, "pyflex_s9_48f": 6447}
TIERS = "beegfs,tmpfs,ssd"
CLOSE = 1e-9

Row = dict[str, str]


@pytest.fixture(scope="session")
def published(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each workflow under the reference rules, as ``qosflow build`` writes it."""
    models = {}
    for name in WORKFLOWS:
        models[name] = tmp_path_factory.mktemp("published") / name
        arguments = ["build", str(reference / name), "--rules", "reference", "--tiers", TIERS]
        assert main([*arguments, "--output", str(models[name])]) == OK
    return models


def rows_of(path: Path) -> list[Row]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(reference: Path, name: str) -> list[Row]:
    plain = reference / name / "expected_makespan.csv"
    return rows_of(plain if plain.exists() else plain.with_suffix(".csv.gz"))


def placed(row: Row, prefix: str, suffix: str) -> tuple[int, frozenset[tuple[str, str]]]:
    """The node count and the tier per stage of a row."""
    tiers = {
        column.removeprefix(prefix).removesuffix(suffix): value
        for column, value in row.items()
        if column.startswith(prefix) and column.endswith(suffix)
    }
    return int(row["nodes"]), frozenset(tiers.items())


@pytest.fixture(params=WORKFLOWS)
def pairs(
    request: pytest.FixtureRequest, reference: Path, published: dict[str, Path]
) -> list[tuple[Row, Row]]:
    """Each configuration of a workflow: what was published of it, and what was built."""
    name = request.param
    built = {placed(row, "tier_", ""): row for row in rows_of(published[name] / "configurations.csv")}
    wanted = {placed(row, "", "_stor"): row for row in expected(reference, name)}
    assert len(built) == len(wanted) == WORKFLOWS[name]
    assert built.keys() == wanted.keys()
    return [(row, built[key]) for key, row in wanted.items()]


def test_every_total_and_every_part_of_a_level(pairs: list[tuple[Row, Row]]) -> None:
    parts = {column: re.fullmatch(r"(in|exec|out)_o(\d+)", column) for column in pairs[0][0]}
    ours = {column: f"{found[1]}_{found[2]}" for column, found in parts.items() if found}
    assert len(ours) >= 9
    for wanted, built in pairs:
        assert math.isclose(float(built["makespan_s"]), float(wanted["total"]), rel_tol=0, abs_tol=CLOSE)
        for theirs, name in ours.items():
            assert math.isclose(float(built[name]), float(wanted[theirs]), rel_tol=0, abs_tol=CLOSE)


def test_every_critical_path(pairs: list[tuple[Row, Row]]) -> None:
    assert [built["critical_path"] for _, built in pairs] == [wanted["critical_path"] for wanted, _ in pairs]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_configurations_stand_in_the_published_order_of_enumeration(
    name: str, reference: Path, published: dict[str, Path]
) -> None:
    summary = json.loads((reference / name / "expected_summary.json").read_text())
    rows = rows_of(published[name] / "configurations.csv")
    assert [int(row["nodes"]) for row in rows] == sorted(
        nodes for nodes in summary["nodes"] for _ in range(summary["configs_per_scale"])
    )
    for nodes, scale in summary["scales"].items():
        times = sorted(float(row["makespan_s"]) for row in rows if row["nodes"] == nodes)
        assert times[0] == pytest.approx(scale["best_total"], abs=CLOSE)
        assert times[-1] == pytest.approx(scale["worst_total"], abs=CLOSE)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_policies_order_as_well_as_published_and_as_honestly(
    name: str, reference: Path, published: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", str(published[name]), "--format", "json"]) == OK
    found = json.loads(capsys.readouterr().out)["scales"]
    summary = json.loads((reference / name / "expected_summary.json").read_text())["scales"]
    assert found.keys() == summary.keys()
    for nodes, scale in summary.items():
        for policy in ("FSF", "LTL", "Hybrid"):
            figures = found[nodes]["policies"][policy]
            assert figures["concordance"] == pytest.approx(scale["pc"][policy]["pc_leakfree"], abs=CLOSE)
            assert figures["concordance_published"] == pytest.approx(
                scale["pc"][policy]["pc_published_metric"], abs=CLOSE
            )
        shown = found[nodes]["makespan_s"]
        for name in ("best", "median", "worst"):
            assert shown[name] == pytest.approx(scale[f"{name}_total"], abs=CLOSE)
        regions = found[nodes]["regions"]
        # The published way to count flatters: held out, and with ties as a coin, regions order less well.
        assert regions["concordance_held_out"] < regions["concordance_published"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_regrets_are_those_of_the_published_makespans(
    name: str, reference: Path, published: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", str(published[name]), "--format", "json"]) == OK
    found = json.loads(capsys.readouterr().out)["scales"]
    rows = {placed(row, "", "_stor"): float(row["total"]) for row in expected(reference, name)}
    for nodes, scale in found.items():
        best_s = min(seconds for (count, _), seconds in rows.items() if count == int(nodes))
        for figures in (*scale["policies"].values(), scale["regions"]):
            first = figures["first_choice"]
            tiers = first["configuration"]["tiers"]
            seconds = rows[int(nodes), frozenset(tiers.items())]
            assert best_s - CLOSE <= seconds <= first["worst_s"] + CLOSE
            if first["tied"] == 1:
                assert first["makespan_s"] == pytest.approx(seconds, abs=CLOSE)
            assert first["regret_s"] == pytest.approx(first["makespan_s"] - best_s, abs=CLOSE)


def test_the_best_of_1kgenome_on_ten_nodes(
    published: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["recommend", "--model", str(published["1kgenome"]), "--format", "json"]
    assert main(arguments) == OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["configuration"]["nodes"] == 10
    assert set(answer["configuration"]["tiers"].values()) == {"beegfs"}
    assert answer["makespan_s"] == pytest.approx(140.44533390595524, abs=CLOSE)
    assert answer["state"] == "measured"


def random_requests(rng: random.Random, rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Requests near what is possible, by the names of their constraints."""
    times = sorted(float(row["makespan_s"]) for row in rows)
    stages = [column.removeprefix("tier_") for column in rows[0] if column.startswith("tier_")]
    tiers = TIERS.split(",")
    while True:
        asked = {
            "deadline_s": rng.choice((rng.choice(times[:60]), rng.uniform(100, 1200))),
            "max_nodes": rng.randint(1, 12),
            "allow": rng.sample(tiers, rng.randint(1, 2)),
            "exclude": rng.sample(tiers, rng.randint(1, 2)),
            "pin": {stage: rng.choice(tiers) for stage in rng.sample(stages, rng.randint(1, 3))},
        }
        yield {
            **{name: value for name, value in asked.items() if rng.random() < 0.4},
            "objective": rng.choice(("makespan", "node_hours")),
        }


def arguments_of(asked: dict[str, Any]) -> list[str]:
    """A request as the arguments of the command."""
    words = []
    for name, value in asked.items():
        if name == "pin":
            words += [word for stage, tier in value.items() for word in ("--pin", f"{stage}={tier}")]
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
    return words


def meets(row: Row, asked: dict[str, Any]) -> bool:
    taken = {column.removeprefix("tier_"): tier for column, tier in row.items() if column.startswith("tier_")}
    return (
        float(row["makespan_s"]) <= asked.get("deadline_s", math.inf)
        and int(row["nodes"]) <= asked.get("max_nodes", math.inf)
        and set(taken.values()) <= set(asked.get("allow", taken.values()))
        and not set(taken.values()) & set(asked.get("exclude", ()))
        and all(taken[stage] == tier for stage, tier in asked.get("pin", {}).items())
    )


def test_200_random_requests_are_answered_as_by_looking_at_every_row(
    published: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(published["1kgenome"] / "configurations.csv")
    counts = {"feasible": 0, "infeasible": 0}
    requests = random_requests(random.Random(20260), rows)
    for _ in range(200):
        asked = next(requests)
        arguments = ["recommend", "--model", str(published["1kgenome"]), "--format", "json"]
        code = main(arguments + arguments_of(asked))
        answer = json.loads(capsys.readouterr().out)
        counts[answer["status"]] += 1
        fitting = [row for row in rows if meets(row, asked)]
        if fitting:
            assert (code, answer["status"]) == (OK, "feasible"), asked
            check_best(answer, fitting, asked)
        else:
            assert (code, answer["status"]) == (INFEASIBLE, "infeasible"), asked
            assert set(answer["binding"]) <= set(asked) - {"objective"}
            freed = {name: value for name, value in asked.items() if name not in answer["binding"]}
            assert any(meets(row, freed) for row in rows), asked
    assert min(counts.values()) > 40, counts


def check_best(answer: dict[str, Any], fitting: list[Row], asked: dict[str, Any]) -> None:
    """The answer is a row that meets the request, and none that does is better."""

    def objective(row: Row) -> float:
        nodes = int(row["nodes"]) if asked["objective"] == "node_hours" else 1
        return nodes * float(row["makespan_s"])

    nodes, tiers = answer["configuration"]["nodes"], answer["configuration"]["tiers"]
    chosen = {"nodes": str(nodes)} | {f"tier_{stage}": tier for stage, tier in tiers.items()}
    (row,) = [row for row in fitting if chosen.items() <= row.items()]
    assert float(row["makespan_s"]) == answer["makespan_s"], asked
    assert objective(row) == min(map(objective, fitting)), asked
