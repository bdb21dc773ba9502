"""Fitted rates: near the truth where it is known, surer where more was measured, the same after storing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import check_grad

from qosflow_airflow.core import rate_process, rate_trees
from qosflow_airflow.core.profile import RateEstimate, RateQuery, StorageProfile
from qosflow_airflow.core.rate_law import RatePoints
from qosflow_airflow.core.rate_model import QueryClass, RateModel, conformal_quantile, identified
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.exceptions import MeasurementError
from tests.support.rate_runs import benchmark_rows, true_rate
from tests.support.traces import MIB, profile, rate


@pytest.fixture(scope="module")
def fitted() -> StorageProfile:
    few = [rate("write", "ssd", 100.0 * nodes, nodes=nodes) for nodes in (1, 2)]
    return profile([*benchmark_rows(), *few]).fitted()


def ask(found: StorageProfile, nodes: float, tasks: float, access: float, volume_mib: float) -> RateEstimate:
    return found.rate(RateQuery("read", "ssd", "ssd", nodes, tasks, access, volume_mib * MIB))


@pytest.mark.parametrize(
    "point", [(2, 4, 65536, 1024), (8, 4, 200000, 500), (3, 2, 65536, 2000), (12, 8, 4096, 100)]
)
def test_estimates_are_near_the_truth_between_measured_points(fitted: StorageProfile, point) -> None:
    assert ask(fitted, *point).mib_s == pytest.approx(true_rate(*point), rel=0.12)


def test_nine_of_ten_new_runs_fall_into_the_interval(fitted: StorageProfile) -> None:
    fresh = benchmark_rows(repeats=1, seed=99)
    queries = [
        RateQuery(
            "read",
            "ssd",
            "ssd",
            row["nodes"],
            row["tasks_per_node"],
            row["access_bytes"],
            row["volume_bytes"],
        )
        for row in fresh
    ]
    inside = [
        found.low_mib_s <= row["rate_mib_s"] <= found.high_mib_s
        for found, row in zip(fitted.rates_of(queries), fresh, strict=True)
    ]
    # Held-out points are harder than measured ones: the interval is rather too wide here.
    assert 0.85 <= np.mean(inside) <= 1.0
    widths = [found.high_mib_s / found.low_mib_s for found in fitted.rates_of(queries)]
    assert np.median(widths) < 1.6


def test_a_query_says_where_it_lies_and_is_less_sure_the_further_it_lies(fitted: StorageProfile) -> None:
    seen, between, beyond = (ask(fitted, nodes, 4, 65536, 1024) for nodes in (4, 6, 100))
    assert [found.query_class for found in (seen, between, beyond)] == [
        QueryClass.MEASURED_SCALE,
        QueryClass.UNSEEN_INTERIOR,
        QueryClass.EXTRAPOLATED,
    ]
    assert [found.provenance for found in (seen, between, beyond)] == [
        Provenance.MEASURED,
        Provenance.MEASURED,
        Provenance.EXTRAPOLATED,
    ]
    for found in (seen, between, beyond):
        assert found.low_mib_s < found.mib_s < found.high_mib_s
    assert beyond.high_mib_s / beyond.low_mib_s > seen.high_mib_s / seen.low_mib_s


def test_a_rate_is_extrapolated_an_order_of_magnitude_and_no_further(fitted: StorageProfile) -> None:
    far, further = (ask(fitted, 4, 4, 65536, volume) for volume in (81920, 8192000))
    assert further.mib_s == pytest.approx(far.mib_s, rel=1e-9)


def test_too_few_points_are_interpolated_without_an_interval(fitted: StorageProfile) -> None:
    found = fitted.rate(RateQuery("write", "ssd", "ssd", 2, 1, MIB, 100 * MIB))
    assert found.mib_s == pytest.approx(200.0)
    assert found.query_class is QueryClass.UNCALIBRATED
    assert math.isnan(found.low_mib_s)
    one = profile([rate("read", "ssd", 5.0)]).fitted()
    assert ask(one, 1, 1, MIB, 100).mib_s == pytest.approx(5.0)


def test_one_level_of_an_axis_says_nothing_of_the_others() -> None:
    rows = [{**row, "access_bytes": 4096.0} for row in benchmark_rows() if row["access_bytes"] == 4096 * 16]
    found = profile(rows).fitted()
    assert found.model is not None
    assert found.model.rates
    assert ask(found, 2, 4, 4096, 1024).mib_s == ask(found, 2, 4, MIB, 1024).mib_s
    assert ask(found, 2, 4, MIB, 1024).query_class is QueryClass.EXTRAPOLATED


def test_a_stored_model_answers_the_same_without_being_fitted(
    fitted: StorageProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fitted.model is not None
    content = fitted.model.to_bytes()
    for module, name in ((rate_trees, "fit_trees"), (rate_process, "fit_process")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("fitted again"))
    monkeypatch.setitem(__import__("sys").modules, "sklearn.ensemble", None)
    again = StorageProfile(fitted.rates, RateModel.from_bytes(content))
    for point in ((2, 4, 65536, 1024), (6, 3, 5000, 77), (99, 1, 1, 1)):
        assert ask(again, *point) == ask(fitted, *point)
    assert again.model is not None
    assert again.model.to_bytes() == content


def test_a_model_of_another_format_is_refused(
    fitted: StorageProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qosflow_airflow.core.rate_model.FORMAT", 99)
    content = RateModel({}, {}).to_bytes()
    monkeypatch.undo()
    with pytest.raises(MeasurementError, match=r"format 99, not 1.*Build the model again"):
        RateModel.from_bytes(content)


def test_compiled_trees_are_the_trees_that_were_fitted() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    random = np.random.default_rng(1)
    features = random.normal(size=(400, 5))
    values = np.sin(3 * features[:, 0]) + (features[:, 1] > 0.3)
    model = HistGradientBoostingRegressor(max_iter=40, random_state=0).fit(features, values)
    queries = np.vstack([features, random.normal(size=(1500, 5)) * 3])
    assert rate_trees._compile(model)(queries) == pytest.approx(model.predict(queries), abs=1e-12)


def test_the_gradient_of_the_likelihood_is_its_gradient() -> None:
    random = np.random.default_rng(2)
    points = np.log(random.choice([1.0, 2.0, 4.0, 8.0], size=(40, 4)))
    loss = rate_process._loss(points, random.normal(size=40), np.ones(40))
    start = rate_process._START + random.normal(size=len(rate_process._START)) * 0.2
    size = np.linalg.norm(loss(start)[1])
    assert check_grad(lambda at: loss(at)[0], lambda at: loss(at)[1], start) < 1e-4 * size


def test_repeats_are_gathered_and_taken_with_their_points() -> None:
    found = RatePoints.of_runs(np.array([[1.0] * 4, [0.0] * 4, [1.0] * 4]), np.array([3.0, 7.0, 5.0]))
    assert found.log_rates.tolist() == [7.0, 4.0]
    assert found.repeats.tolist() == [1.0, 2.0]
    left = found.take(np.array([False, True]))
    assert left.runs.tolist() == [[0.0, 3.0], [0.0, 5.0]]
    assert not identified(found)


def test_the_conformal_quantile_covers_new_scores_as_often_as_asked() -> None:
    assert conformal_quantile(np.arange(1.0, 100.0), 0.9) == 90.0
    assert conformal_quantile(np.array([1.0, 2.0]), 0.9) == 2.0
