"""Held-out errors: of the right rows, beside the interpolation, with intervals that are counted honestly."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qosflow_airflow.cli import main
from qosflow_airflow.core.rate_baseline import interpolate_four_axes
from qosflow_airflow.core.rate_evaluation import (
    FEW_MEASURED,
    MEASURED_POINTS,
    HeldOut,
    Runs,
    design_folds,
    hold_out,
    repeat_noise,
    summarise,
)
from tests.support.rate_runs import NODES, NOISE, benchmark_rows

KEY = ("read", "ssd", "ssd")


def runs(seed: int = 0) -> Runs:
    rows = benchmark_rows(seed=seed)
    axes = ("nodes", "tasks_per_node", "access_bytes", "volume_bytes")
    points = np.array([[row[axis] for axis in axes] for row in rows], dtype=float)
    return Runs(KEY, points, np.array([row["rate_mib_s"] for row in rows]), design_folds(points))


def test_repeats_share_a_fold_and_folds_are_of_one_size() -> None:
    found = runs()
    by_point: dict[tuple[float, ...], set[int]] = {}
    for point, fold in zip(found.points.tolist(), found.folds.tolist(), strict=True):
        by_point.setdefault(tuple(point), set()).add(fold)
    assert all(len(folds) == 1 for folds in by_point.values())
    assert np.bincount(found.folds).tolist() == [54] * 5


def test_every_level_is_held_out_once_inside_or_at_an_end() -> None:
    inside, end = sorted(hold_out(runs(), "nodes"), key=lambda part: part.split, reverse=True)
    assert (inside.split, end.split) == ("nodes_interior", "nodes_end")
    per_level = len(runs().points) // len(NODES)
    assert (len(inside.error), len(end.error)) == (3 * per_level, 2 * per_level)
    # The law holds everywhere: it is nearer than the interpolation even where a whole level is missing.
    assert np.median(inside.error) < 0.5 * np.median(inside.baseline_error)


def test_a_few_points_of_a_node_count_tell_what_is_its_own() -> None:
    found = runs()
    odd = found.points[:, 0] == NODES[2]
    found = found._replace(rates_mib_s=np.where(odd, 3 * found.rates_mib_s, found.rates_mib_s))
    without = next(part for part in hold_out(found, "nodes") if part.split == "nodes_interior")
    (few,) = hold_out(found, FEW_MEASURED)
    repeats = len(found.points) // len(np.unique(found.points, axis=0))
    assert len(without.error) - len(few.error) == 3 * MEASURED_POINTS * repeats
    turn = 2
    assert np.median(few.error[few.fold == turn]) < 0.5 * np.median(without.error[without.fold == turn])
    # The baseline is never told of these points.
    assert set(few.baseline_error.tolist()) <= set(without.baseline_error.tolist())


def test_held_out_errors_come_near_the_noise_of_repeats() -> None:
    found = summarise(hold_out(runs(), "random"))
    split = found["splits"]["random"]
    assert split["median"] == pytest.approx(0.67 * NOISE, rel=0.6)
    assert split["ratio_median"] == pytest.approx(split["median"] / split["baseline_median"])
    assert 0.84 <= found["coverage_90"]["grid"] <= 0.96
    assert found["coverage_90"]["nodes_interior"] is None


def test_coverage_counts_runs_inside_what_others_calibrated() -> None:
    fold = np.repeat([0, 1], 100)
    error = np.concatenate([np.linspace(0.01, 1, 100), np.linspace(0.02, 2, 100)])
    part = HeldOut(KEY, "random", fold, error, error, np.ones(200))
    # Fold 0 lies wholly inside the 1.82 of fold 1; of fold 1, 0.91 of fold 0 holds 45.
    assert summarise([part])["coverage_90"]["grid"] == pytest.approx((100 + 45) / 200)


def test_the_noise_of_repeats_is_that_of_one_run_against_the_others() -> None:
    points = np.array([[1.0] * 4, [1.0] * 4, [2.0] * 4])
    found = repeat_noise([Runs(KEY, points, np.exp([0.0, 0.5, 9.0]), np.zeros(3, dtype=np.int64))])
    assert found == {"median": pytest.approx(0.5), "p90": pytest.approx(0.5), "runs": 2}


def test_the_interpolation_takes_the_median_of_four_lines_between_means() -> None:
    points = np.array([[n, p, 1, 1] for n in (1.0, 3.0) for p in (1.0, 2.0)])
    rates = np.array([10.0, 20.0, 30.0, 60.0])
    # Nodes: 15 to 45, half way 30. Tasks per node: 20 to 40, at the upper 40. The other two: all, 30.
    assert interpolate_four_axes(points, rates, np.array([[2.0, 2, 1, 1]])) == pytest.approx([30.0])
    # Beyond the ends the line goes on, and never below nothing: the lower mean stands in.
    falling = np.array([100.0, 100.0, 10.0, 10.0])
    assert interpolate_four_axes(points, falling, np.array([[9.0, 1, 1, 1]])) == pytest.approx([55.0])


def write_csv(path, rows) -> None:
    header = (
        "operation,transferSize,aggregateFilesizeMB,numTasks,"
        "totalTime,numNodes,tasksPerNode,trMiB,storageType"
    )
    lines = [
        f"{row['operation']},{row['access_bytes']},{row['volume_bytes'] / 2**20},{row['tasks']},-1,"
        f"{row['nodes']},{row['tasks_per_node']},{row['rate_mib_s']},{row['source_tier']}"
        for row in rows
    ]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def test_the_command_prints_every_figure(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in benchmark_rows() if row["nodes"] in (1, 4, 16) and row["access_bytes"] < 1e6]
    write_csv(tmp_path / "profile.csv", rows)
    folds = "\n".join(["row,fold", *(f"{at},{at // 2 % 3}" for at in range(len(rows)))])
    (tmp_path / "folds.csv").write_text(folds, encoding="utf-8")
    command = ["profile", "evaluate", str(tmp_path / "profile.csv"), "--folds", str(tmp_path / "folds.csv")]
    assert main([*command, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"random", "nodes_interior", "nodes_end", "tasks_per_node_interior", "size_end"} <= set(
        found["splits"]
    )
    assert found["splits"]["random"]["runs"] == len(rows)
    assert found["checks"]["kept"] == len(rows)
    assert set(found["coverage_90"]) == {"grid", "nodes_interior"}
    assert min(found[name] for name in ("half_width_factor", "fit_s", "predict_100k_s")) > 0


def test_the_command_refuses_what_it_cannot_judge(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "profile.csv", benchmark_rows()[:8])
    assert main(["profile", "evaluate", str(tmp_path / "profile.csv")]) == 2
    assert "too few measurements" in capsys.readouterr().err
    (tmp_path / "folds.csv").write_text("row,fold\n8,0\n", encoding="utf-8")
    assert (
        main(["profile", "evaluate", str(tmp_path / "profile.csv"), "--folds", str(tmp_path / "folds.csv")])
        == 2
    )
    assert "folds.csv, line 2, column 'row': is 8 of 8 measurements" in capsys.readouterr().err
