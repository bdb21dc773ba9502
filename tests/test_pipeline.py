"""The offline steps: each may be tried again, and a model is whole or not there."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from qosflow_airflow import pipeline
from qosflow_airflow.answers import answer_request, load_model, load_model_version
from qosflow_airflow.core.build_options import BuildOptions
from qosflow_airflow.core.makespan_rules import REFERENCE
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import Infeasible, Recommendation, recommend
from qosflow_airflow.core.transfer import StageTimes
from qosflow_airflow.exceptions import (
    BundleError,
    MeasurementError,
    NotFoundError,
    QoSFlowError,
    RequestError,
    StoreError,
    TierError,
    WorkflowError,
)
from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml
from qosflow_airflow.store.memory import MemoryStore
from qosflow_airflow.store.migrate import upgrade
from qosflow_airflow.store.model_folder import read_model_folder
from qosflow_airflow.store.postgres import PostgresStore
from tests.support.bundles import TIERS, WORKFLOW, observations, profile, write_bundle, write_transfer_times
from tests.support.instances import platform, random_rows

STEPS: tuple[Callable[..., Any], ...] = (
    pipeline.project,
    pipeline.estimate,
    pipeline.cost,
    pipeline.regions,
)
ONE = BuildOptions(scales=(2,))


class WatchedStore(MemoryStore):
    """A store that knows what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def register_workflow(self, *arguments: Any, **options: Any) -> Any:
        self.written.append("workflow")
        return super().register_workflow(*arguments, **options)

    def create_build(self, *arguments: Any, **options: Any) -> Any:
        self.written.append("build")
        return super().create_build(*arguments, **options)

    def put_part(self, *arguments: Any, **options: Any) -> Any:
        self.written.append("part")
        return super().put_part(*arguments, **options)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "line")


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


def parts(store: MemoryStore, build_id: str) -> dict[tuple[str, str | None], str]:
    return {(part.kind, part.scale): part.sha256 for part in store.list_parts(build_id)}


def test_all_steps_publish_one_model_that_answers(store: WatchedStore, bundle: Path) -> None:
    said: list[str] = []
    published = pipeline.run(store, bundle, BuildOptions(), said.append)
    assert published["workflow"] == "line"
    assert published["version"] == 1
    assert published["scales"] == [2, 4]  # those that the trace names
    assert published["configurations"] == {"2": 27, "4": 27}
    assert said[0] == "line: 2 scales, anchored on 7 traced tasks"
    assert said[1].startswith("2 nodes: 27 configurations, ")
    loaded = load_model(store, "line")
    assert loaded.version.model_id == published["model_id"]
    assert loaded.model.compute_known
    answer = recommend(loaded.model, QoSRequest())
    assert isinstance(answer, Recommendation)
    assert answer.answer["state"] == "measured"
    assert answer.answer["region"] is not None


def test_a_makespan_by_hand(store: WatchedStore, bundle: Path) -> None:
    # On 2 nodes, all on disk, which reads 200 and writes 100 MiB/s there. Split moves 800 and 400 MiB, merge
    # 400 and 100, report 100 and 1; they compute for 3, 2 and 0.5 s.
    pipeline.run(store, bundle, replace(ONE, anchoring=False))
    answer = recommend(load_model(store, "line").model, QoSRequest(allow=("disk",)))
    assert isinstance(answer, Recommendation)
    stages = answer.answer["stage_s"]
    assert stages["split"] == pytest.approx(
        {"stage_in_s": 0, "read_s": 4.0, "compute_s": 3.0, "write_s": 4.0, "stage_out_s": 0}
    )
    assert stages["merge"] == pytest.approx(
        {"stage_in_s": 0, "read_s": 2.0, "compute_s": 2.0, "write_s": 1.0, "stage_out_s": 0}
    )
    assert answer.makespan_s == pytest.approx(11.0 + 5.0 + 0.5 + 0.5 + 0.01)


def test_where_the_trace_was_made_times_are_those_of_the_trace(store: WatchedStore, bundle: Path) -> None:
    # Every task's reads and writes took 1 s in the trace, with all of a stage's tasks at once.
    pipeline.run(store, bundle, ONE)
    model = load_model(store, "line").model
    answer = recommend(model, QoSRequest(allow=("disk",)))
    assert isinstance(answer, Recommendation)
    for stage in ("split", "merge", "report"):
        assert answer.answer["stage_s"][stage]["read_s"] == pytest.approx(1.0)
        assert answer.answer["stage_s"][stage]["write_s"] == pytest.approx(1.0)
    times = model.scale(2).times
    assert {(anchor.tier, anchor.nodes) for anchor in times.anchors} == {("disk", 2)}
    assert StageTimes.from_json(times.to_json()).anchors == times.anchors


def test_without_times_in_the_trace_the_rates_stand_alone(store: WatchedStore, bundle: Path) -> None:
    observations = bundle / "observations.csv"
    frame = pd.read_csv(observations, dtype=str)
    frame.assign(totalTime="").to_csv(observations, index=False)
    said: list[str] = []
    pipeline.run(store, bundle, ONE, said.append)
    assert said[0] == "line: 1 scales, not anchored: the trace has no times of reads and writes"
    assert load_model(store, "line").model.scale(2).times.anchors == ()


@pytest.mark.parametrize("step", range(4))
def test_every_step_may_be_tried_again(store: WatchedStore, bundle: Path, step: int) -> None:
    opened = pipeline.open_build(store, bundle, ONE)
    for number, run_step in enumerate(STEPS):
        first = run_step(store, opened.build_id, 2)
        if number == step:
            before = parts(store, opened.build_id)
            assert run_step(store, opened.build_id, 2) == first
            assert parts(store, opened.build_id) == before
    assert pipeline.publish(store, opened.build_id)["version"] == 1


@pytest.mark.parametrize("done", range(5))
def test_a_crash_between_steps_leaves_no_model_and_the_build_can_go_on(
    store: WatchedStore, bundle: Path, done: int
) -> None:
    opened = pipeline.open_build(store, bundle, ONE)
    for run_step in STEPS[:done]:
        run_step(store, opened.build_id, 2)
    assert store.models() == ()
    with pytest.raises(NotFoundError, match="no model"):
        load_model(store, "line")
    if done < len(STEPS):
        with pytest.raises(StoreError):
            pipeline.publish(store, opened.build_id)
        assert store.models() == ()
    for run_step in STEPS[done:]:
        run_step(store, opened.build_id, 2)
    assert pipeline.publish(store, opened.build_id)["version"] == 1


def test_a_scale_that_was_forgotten_is_not_published(store: WatchedStore, bundle: Path) -> None:
    opened = pipeline.open_build(store, bundle, BuildOptions(scales=(2, 4)))
    for run_step in STEPS:
        run_step(store, opened.build_id, 2)
    with pytest.raises(StoreError, match="scale 4"):
        pipeline.publish(store, opened.build_id)
    assert store.models() == ()


def test_publishing_again_gives_the_same_model(store: WatchedStore, bundle: Path) -> None:
    opened = pipeline.open_build(store, bundle, ONE)
    for run_step in STEPS:
        run_step(store, opened.build_id, 2)
    first = pipeline.publish(store, opened.build_id)
    assert pipeline.publish(store, opened.build_id) == first
    assert [model.model_id for model in store.models()] == [first["model_id"]]


def test_a_published_build_is_closed(store: WatchedStore, bundle: Path) -> None:
    opened = pipeline.open_build(store, bundle, ONE)
    for run_step in STEPS:
        run_step(store, opened.build_id, 2)
    pipeline.publish(store, opened.build_id)
    with pytest.raises(StoreError, match="published"):
        pipeline.estimate(store, opened.build_id, 2)


def test_the_same_bundle_gives_the_same_model(store: WatchedStore, bundle: Path) -> None:
    one, two = (pipeline.run(store, bundle, ONE) for _ in range(2))
    assert (one["version"], two["version"]) == (1, 2)
    for kind, scale in (("model", None), ("regions", None), ("configurations", "2")):
        contents = {store.model_part(found["model_id"], kind, scale) for found in (one, two)}
        assert len(contents) == 1


def test_a_model_knows_what_it_was_built_from(store: WatchedStore, bundle: Path) -> None:
    pipeline.run(store, bundle, BuildOptions(scales=(2,), tiers=("disk", "ssd")))
    model = load_model(store, "line").model
    assert model.inputs == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.iterdir()
    }
    assert BuildOptions.parse(model.options) == BuildOptions(scales=(2,), tiers=("disk", "ssd"))
    assert model.catalog.names == ("disk", "ssd")
    assert load_model(store, "line").version.inputs == model.inputs


@pytest.mark.system
def test_postgres_and_memory_keep_the_same_model(bundle: Path, database_url: str) -> None:
    upgrade(database_url)
    with PostgresStore(database_url) as postgres, MemoryStore() as memory:
        kept = [(store, pipeline.run(store, bundle, ONE)["model_id"]) for store in (postgres, memory)]
        for kind, scale in (("model", None), ("regions", None), ("configurations", "2")):
            assert len({store.model_part(model_id, kind, scale) for store, model_id in kept}) == 1
        answers = [
            recommend(load_model_version(store, model_id).model, QoSRequest()) for store, model_id in kept
        ]
        assert answers[0].answer == answers[1].answer


MANY_STAGES = "name: wide\nstages:\n" + "".join(f"  s{i}: {{tasks: 1}}\n" for i in range(40))


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        ({"without": ["workflow.yaml"]}, {}, BundleError, "holds neither workflow.yaml nor stages.json"),
        ({"without": ["profile.csv"]}, {}, MeasurementError, "nothing to estimate times from"),
        ({"without": ["observations.csv"]}, {"scales": "2"}, MeasurementError, "nothing to estimate"),
        ({"without": ["tiers.yaml"]}, {}, BundleError, r"no tiers are known\. Add a tiers\.yaml"),
        ({"without": ["observations.csv"]}, {}, BundleError, "no scales are known"),
        ({"workflow": WORKFLOW.replace("merge:", "sum:", 1)}, {}, QoSFlowError, "merge"),
        ({"workflow": WORKFLOW.replace("report:", "other:", 1)}, {}, MeasurementError, "report"),
        ({"workflow": WORKFLOW.replace("tasks: 4", "tasks: 0")}, {}, WorkflowError, "0"),
        ({"workflow": MANY_STAGES}, {"scales": "2"}, MeasurementError, "'split' is not a stage"),
        ({"tiers": TIERS.replace("disk:  {", "disc:  {")}, {}, TierError, "disk"),
        ({"observations": "operation\nread\n"}, {}, BundleError, "columns .* are missing"),
        ({"observations": observations().replace("read", "peek", 1)}, {}, MeasurementError, "peek"),
        ({"profile": profile().replace("disk", "tape")}, {"tiers": "disk"}, TierError, "disk"),
        ({}, {"tiers": "disk,nvme"}, TierError, "nvme"),
        ({}, {"tiers": "ssd"}, TierError, "no tier is shared"),
        ({}, {"scales": "0"}, MeasurementError, "a scale of 0 nodes"),
        ({}, {"scales": "2,1000000"}, MeasurementError, "a scale of 1000000 nodes"),
        ({}, {"transfer_times": "nowhere.csv"}, BundleError, r"nowhere\.csv"),
        ({}, {"name": "x" * 10_000}, QoSFlowError, "name"),
    ],
)
def test_a_wrong_bundle_is_an_error_and_leaves_nothing_behind(
    tmp_path: Path,
    store: WatchedStore,
    change: dict[str, Any],
    options: dict[str, Any],
    error: type[QoSFlowError],
    said: str,
) -> None:
    folder = write_bundle(tmp_path / "line", **change)
    with pytest.raises(error, match=said):
        pipeline.open_build(store, folder, BuildOptions.parse(options))
    assert "build" not in store.written
    assert "part" not in store.written
    assert store.list_workflows() == ()


def test_a_sample_stands_for_a_space_that_is_too_large(
    tmp_path: Path, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qosflow_airflow.core.space.SAMPLE", 200)
    folder = write_bundle(
        tmp_path / "wide", workflow=MANY_STAGES, without=["observations.csv", "profile.csv"]
    )
    workflow = read_workflow_yaml(folder / "workflow.yaml")
    rows = random_rows(random.Random(1), workflow, platform(("disk",), ("tmpfs",)), (2,), missing=0)
    write_transfer_times(folder / "spm.csv", rows)
    published = pipeline.run(store, folder, BuildOptions(scales=(2,), tiers=("disk", "tmpfs")))
    assert published["configurations"] == {"2": 200}
    model = load_model(store, workflow.name).model
    quality = model.scales[0].quality
    assert quality["sampled"]
    assert quality["layouts"] == {"evaluated": 200, "of": 2**40}
    assert model.scales[0].regions is not None
    answer = recommend(model, QoSRequest())
    assert isinstance(answer, Recommendation)
    assert answer.answer["optimality"]["proven"]
    sampled = model.makespans(2).makespan_s(model.space.sample(200))
    assert answer.makespan_s <= sampled.min()


def test_what_was_never_measured_makes_a_model_that_says_so(tmp_path: Path, store: WatchedStore) -> None:
    rates = profile({("read", "disk"): 100.0})  # nothing can be written anywhere
    published = pipeline.run(store, write_bundle(tmp_path / "line", profile=rates), ONE)
    assert published["configurations"] == {"2": 27}
    model = load_model(store, "line").model
    assert model.scales[0].regions is None
    answer = recommend(model, QoSRequest(deadline_s=1.0))
    assert isinstance(answer, Infeasible)
    assert answer.binding == ("measurements",)


def test_a_single_configuration_is_a_model_too(tmp_path: Path, store: WatchedStore) -> None:
    published = pipeline.run(
        store, write_bundle(tmp_path / "line"), BuildOptions(scales=(2,), tiers=("disk",))
    )
    assert published["configurations"] == {"2": 1}
    model = load_model(store, "line").model
    assert model.scales[0].quality["policies"]["FSF"]["concordance"] is None  # one configuration has no order
    assert isinstance(recommend(model, QoSRequest()), Recommendation)


def test_transfer_times_that_are_asked_for_replace_the_estimate(bundle: Path, store: WatchedStore) -> None:
    workflow = read_workflow_yaml(bundle / "workflow.yaml")
    rows = random_rows(random.Random(5), workflow, platform(("disk",), ("tmpfs", "ssd")), (2, 4), missing=0)
    write_transfer_times(bundle / "times.csv", rows)
    for name in ("times.csv", str(bundle / "times.csv")):
        pipeline.run(store, bundle, BuildOptions(scales=(2,), rules=REFERENCE, transfer_times=name))
        model = load_model(store, "line").model
        assert model.rules is REFERENCE
        assert not model.compute_known  # the trace has compute times, the table has not
        assert len(model.space.layouts()) == 17  # edges between ssd and tmpfs are not allowed


def test_an_answer_is_kept_with_its_request(store: WatchedStore, bundle: Path) -> None:
    pipeline.run(store, bundle, ONE)
    record, answer, loaded = answer_request(
        store, "line", QoSRequest(deadline_s=1e-3), dag_id="d", run_id="r"
    )
    assert isinstance(answer, Infeasible)
    assert record.status == "infeasible"
    assert record.model_id == loaded.version.model_id
    kept = store.recommendation(record.recommendation_id)
    assert kept.answer == json.loads(json.dumps(answer.answer))
    assert (kept.dag_id, kept.run_id) == ("d", "r")


class TestResolvingABundle:
    def test_a_path_below_a_root(self, bundle: Path, store: WatchedStore) -> None:
        assert pipeline.resolve_bundle(str(bundle), [str(bundle.parent)], store) == bundle.resolve()

    def test_a_registered_name(self, bundle: Path, store: WatchedStore) -> None:
        pipeline.run(store, bundle, ONE)
        assert pipeline.resolve_bundle("line", [str(bundle.parent)], store) == bundle.resolve()

    def test_a_bundle_built_from_a_relative_path_is_found_from_anywhere(
        self, bundle: Path, store: WatchedStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(bundle.parent)
        pipeline.open_build(store, Path("line"), ONE)
        monkeypatch.chdir("/")
        assert pipeline.resolve_bundle("line", [str(bundle.parent)], store) == bundle.resolve()

    def test_a_name_that_nobody_registered(self, store: WatchedStore) -> None:
        with pytest.raises(BundleError, match="no workflow is registered as 'line'"):
            pipeline.resolve_bundle("line", ["/"], store)

    @pytest.mark.parametrize("path", ["../secret", "{root}/../secret", "/etc", "{root}/link"])
    def test_nothing_outside_the_roots(self, tmp_path: Path, store: WatchedStore, path: str) -> None:
        root = tmp_path / "root"
        root.mkdir()
        write_bundle(tmp_path / "secret")
        (root / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(BundleError):
            pipeline.resolve_bundle(path.format(root=root), [str(root)], store)
        with pytest.raises(BundleError):
            pipeline.open_build(store, Path(path.format(root=root)), ONE, roots=[str(root)])
        assert store.written == []

    @pytest.mark.parametrize("kind", ["absolute", "relative", "link"])
    def test_transfer_times_outside_the_roots_are_not_read(
        self, bundle: Path, tmp_path: Path, store: WatchedStore, kind: str
    ) -> None:
        secret = tmp_path / "secret.csv"
        secret.write_text("password\nhunter2\n")
        (bundle / "link.csv").symlink_to(secret)
        name = {"absolute": str(secret), "relative": "../secret.csv", "link": "link.csv"}[kind]
        options = BuildOptions(scales=(2,), transfer_times=name)
        with pytest.raises(BundleError) as caught:
            pipeline.open_build(store, bundle, options, roots=[str(bundle)])
        assert "hunter2" not in str(caught.value)
        assert "password" not in str(caught.value)
        assert store.written == []


class TestBuildOptions:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({}, BuildOptions()),
            ({"scales": "2, 5,10"}, BuildOptions(scales=(2, 5, 10))),
            ({"scales": [2, "5"]}, BuildOptions(scales=(2, 5))),
            ({"scales": 4}, BuildOptions(scales=(4,))),
            ({"scales": None, "tiers": "", "name": None}, BuildOptions()),
            ({"tiers": "disk, ssd"}, BuildOptions(tiers=("disk", "ssd"))),
            ({"rules": "reference"}, BuildOptions(rules=REFERENCE)),
        ],
    )
    def test_loose_values_are_understood(self, values: dict[str, Any], expected: BuildOptions) -> None:
        assert BuildOptions.parse(values) == expected
        assert BuildOptions.parse(json.loads(json.dumps(expected.to_json()))) == expected

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"scales": "two"}, r"scales is 'two'\. Give whole numbers, as in 2,5,10"),
            ({"scales": "2.5"}, "scales is '2.5'"),
            ({"scales": True}, "scales is True"),
            ({"rules": "published"}, "unknown rules 'published'"),
            ({"scale": 2}, "unknown options scale"),
        ],
    )
    def test_what_makes_no_sense_is_an_error(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(RequestError, match=said):
            BuildOptions.parse(values)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A model folder per scale, all of one bundle."""
    folder = tmp_path_factory.mktemp("built")
    bundle = write_bundle(folder / "line")
    for nodes in (2, 4):
        pipeline.build_folder(bundle, BuildOptions(scales=(nodes,)), folder / str(nodes))
    return {nodes: folder / str(nodes) for nodes in (2, 4)}


class TestModelFolder:
    @pytest.fixture
    def folder(self, built: dict[int, Path], tmp_path: Path) -> Path:
        """A copy that a test may change."""
        return Path(shutil.copytree(built[2], tmp_path / "model"))

    def test_it_holds_the_model_its_regions_and_every_configuration(
        self, built: dict[int, Path], store: WatchedStore
    ) -> None:
        folder = built[2]
        assert {path.name for path in folder.iterdir()} == {
            "model.json",
            "regions.json",
            "configurations.csv",
        }
        assert len((folder / "configurations.csv").read_text().splitlines()) == 1 + 27
        pipeline.run(store, folder.parent / "line", ONE)
        kept = load_model(store, "line").model
        again = read_model_folder(folder)
        assert again.to_json() == kept.to_json()
        assert again.regions_to_json() == kept.regions_to_json()

    def test_building_again_replaces_it(self, folder: Path, bundle: Path) -> None:
        pipeline.build_folder(bundle, BuildOptions(scales=(4,)), folder)
        assert read_model_folder(folder).nodes == (4,)
        assert len(list(folder.iterdir())) == 3

    def test_a_folder_of_other_files_is_left_alone(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis.tex").write_text("x")
        with pytest.raises(BundleError, match=r"holds thesis\.tex, which is not a model's"):
            pipeline.build_folder(bundle, ONE, tmp_path / "home")
        assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]

    def test_the_rest_of_a_killed_build_is_no_obstacle(self, bundle: Path, tmp_path: Path) -> None:
        rest = tmp_path / "model" / ".partial-x1y2"
        rest.mkdir(parents=True)
        (rest / "configurations.csv").write_text("nodes\n")
        pipeline.build_folder(bundle, ONE, tmp_path / "model")
        assert read_model_folder(tmp_path / "model").nodes == (2,)

    def test_a_folder_that_cannot_be_written(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(BundleError, match="cannot be written"):
            pipeline.build_folder(bundle, ONE, tmp_path / "file")

    @pytest.mark.parametrize("name", ["model.json", "regions.json"])
    def test_a_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(BundleError, match="is missing"):
            read_model_folder(folder)

    def test_regions_of_another_build(self, folder: Path, built: dict[int, Path]) -> None:
        # What a crash between two replacements leaves behind.
        shutil.copy(built[4] / "regions.json", folder / "regions.json")
        with pytest.raises(BundleError, match=r"does not belong to the model\.json beside it"):
            read_model_folder(folder)

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", '"x"', "{}", '{"format": 1}', '{"format": 7}', "\xff\x00", "NaN"]
    )
    def test_a_model_that_is_none(self, folder: Path, text: str) -> None:
        (folder / "model.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(QoSFlowError):
            read_model_folder(folder)

    @pytest.mark.parametrize("key", ["workflow", "tiers", "rules", "scales", "inputs"])
    def test_a_model_without_one_of_its_parts(self, folder: Path, key: str) -> None:
        value = json.loads((folder / "model.json").read_text())
        value[key] = 5
        (folder / "model.json").write_text(json.dumps(value))
        with pytest.raises(QoSFlowError):
            read_model_folder(folder)
        del value[key]
        (folder / "model.json").write_text(json.dumps(value))
        with pytest.raises(QoSFlowError):
            read_model_folder(folder)
