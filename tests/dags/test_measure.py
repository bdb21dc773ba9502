"""The measuring Dag, on real folders."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qosflow_airflow.readers.rates_csv import read_rates_csv

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiers and bundles, below which all is allowed, and others next to them."""
    for name in ("tiers/disk", "tiers/memory", "bundles", "other"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("AIRFLOW__QOSFLOW__TIER_ROOTS", str(tmp_path / "tiers"))
    monkeypatch.setenv("AIRFLOW__QOSFLOW__BUNDLE_ROOTS", str(tmp_path / "bundles"))
    return tmp_path


@pytest.fixture
def measured(places: Path) -> Callable[..., Any]:
    from qosflow_airflow.operators.measure import measure_node_class

    def measure(name: str = "default", **params: Any) -> Any:
        asked = {
            "tiers": f"disk={places / 'tiers' / 'disk'}\n\nmemory = {places / 'tiers' / 'memory'}\n",
            "bundle": str(places / "bundles" / "genome"),
            "budget_s": 0.2,
        }
        return measure_node_class(asked | params, name)

    return measure


@pytest.mark.system
def test_a_run_writes_the_profile_of_the_bundle(places: Path, airflow_database: None) -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags" / "qosflow_measure.py"))
    assert bag.import_errors == {}
    bundle = places / "bundles" / "genome"
    conf = {"tiers": f"disk={places / 'tiers' / 'disk'}", "bundle": str(bundle), "budget_s": 0.2}
    run = bag.dags["qosflow_measure"].test(run_conf=conf)
    assert {ti.task_id: str(ti.state) for ti in run.get_task_instances()} == {"measure_default": "success"}
    assert read_rates_csv(bundle / "profile.csv").tiers == ("disk",)
    assert [path.name for path in bundle.iterdir()] == ["profile.csv"]
    assert list((places / "tiers" / "disk").iterdir()) == []


def test_tiers_are_lines_or_json(measured: Callable[..., Any], places: Path) -> None:
    answer = measured()
    assert answer["tiers"] == ["disk", "memory"]
    frame = read_rates_csv(answer["profile"]).frame
    assert (len(frame), int(frame["cached"].sum())) == (answer["rates"], answer["cached"])
    assert answer["cached"] > 0
    assert measured(tiers=f'{{"only": "{places}/tiers/disk"}}')["tiers"] == ["only"]
    assert read_rates_csv(answer["profile"]).tiers == ("only",)


def test_each_class_of_nodes_has_its_task_queue_pool_and_profile(
    measured: Callable[..., Any], places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    classes = '{"fat": {"queue": "big", "pool": "one"}, "thin": {}}'
    monkeypatch.setenv("AIRFLOW__QOSFLOW__NODE_CLASSES", classes)
    dag = DagBag(str(ROOT / "dags" / "qosflow_measure.py")).dags["qosflow_measure"]
    fat, thin = dag.get_task("measure_fat"), dag.get_task("measure_thin")
    assert (fat.queue, fat.pool) == ("big", "one")
    assert (thin.queue, thin.pool) == ("default", "default_pool")
    assert measured("fat")["profile"] == str(places / "bundles" / "genome" / "fat" / "profile.csv")


@pytest.mark.parametrize(
    "text", ["[]", "{}", "{", '{"a": 1}', '{"a": {"other": "x"}}', '{"a/b": {}}', '{"a": {"queue": ""}}']
)
def test_wrong_classes_are_an_error_that_names_the_option(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from qosflow_airflow.exceptions import QoSFlowError
    from qosflow_airflow.operators.measure import classes_to_measure

    monkeypatch.setenv("AIRFLOW__QOSFLOW__NODE_CLASSES", text)
    with pytest.raises(QoSFlowError, match=r"option \[qosflow\] node_classes .* Give a JSON object"):
        classes_to_measure()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tiers": "disk={places}/other"}, r"other: lies outside .* \[qosflow\] tier_roots"),
        ({"tiers": "disk={places}/tiers/../other"}, r"lies outside .* \[qosflow\] tier_roots"),
        ({"tiers": "disk={places}/tiers/link"}, r"lies outside .* \[qosflow\] tier_roots"),
        ({"tiers": "disk=/"}, r"lies outside .* \[qosflow\] tier_roots"),
        ({"tiers": "disk={places}/tiers/missing"}, "tier 'disk' has no folder"),
        ({"tiers": "disk"}, "does not name a tier and its folder"),
        ({"tiers": '{"disk": 1}'}, "the folder of a tier is not a text"),
        ({"tiers": "{"}, "the tiers are not valid JSON"),
        ({"tiers": "{}"}, "no tiers to measure"),
        ({"bundle": "{places}/other"}, r"lies outside .* \[qosflow\] bundle_roots"),
        ({"bundle": "{places}/bundles/link/new"}, r"lies outside .* \[qosflow\] bundle_roots"),
        ({"bundle": "{places}/bundles/file"}, "file: cannot be made: File exists"),
        ({"budget_s": "nan"}, "the budget is 'nan'"),
    ],
)
def test_what_is_wrong_or_outside_fails_for_good_and_touches_nothing(
    params: dict[str, str], message: str, measured: Callable[..., Any], places: Path
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    for folder in ("tiers", "bundles"):
        (places / folder / "link").symlink_to(places / "other")
    (places / "bundles" / "file").write_text("kept")
    asked = {name: value.replace("{places}", str(places)) for name, value in params.items()}
    with pytest.raises(AirflowFailException, match=message):
        measured(**asked)
    assert list((places / "other").iterdir()) == []
    assert not any(path.name == "profile.csv" for path in places.rglob("*"))


def test_without_roots_nothing_is_measured(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.delenv("AIRFLOW__QOSFLOW__TIER_ROOTS")
    with pytest.raises(AirflowFailException, match="tier_roots"):
        measured()


def test_a_task_that_is_told_to_end_cleans_up_and_keeps_the_old_profile(
    measured: Callable[..., Any], places: Path
) -> None:
    from airflow.sdk.exceptions import AirflowException

    disk, profile = places / "tiers" / "disk", places / "bundles" / "genome" / "profile.csv"
    profile.parent.mkdir()
    profile.write_text("old")
    before = signal.getsignal(signal.SIGTERM)

    def end_when_it_measures() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not any(map(_holds_files, disk.iterdir())):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end_when_it_measures)
    thread.start()
    try:
        with pytest.raises(AirflowException, match="ended by SIGTERM; no profile is written"):
            measured(budget_s=60)
    finally:
        thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
    assert list(disk.iterdir()) == []
    assert profile.read_text() == "old"


def _holds_files(folder: Path) -> bool:
    return stat.S_ISDIR(folder.stat().st_mode) and any(folder.iterdir())


def test_the_form_refuses_what_cannot_be_meant() -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.exceptions import ParamValidationError

    dag = DagBag(str(ROOT / "dags" / "qosflow_measure.py")).dags["qosflow_measure"]
    for name, wrong in {"tiers": [None, ""], "bundle": [None, ""], "budget_s": [0, -1, "x", 3601]}.items():
        param = dag.params.get_param(name)
        assert param.schema["title"]
        assert param.schema["description_md"]
        for value in wrong:
            with pytest.raises(ParamValidationError):
                param.resolve(value)
