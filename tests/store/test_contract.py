"""What base.py promises, asked of every store."""

from __future__ import annotations

import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from qosflow_airflow.exceptions import NotFoundError, StoreError
from qosflow_airflow.store.base import MAX_PART_BYTES, Part, RecommendationRecord, Store
from qosflow_airflow.store.finished_runs import MAX_OBSERVATIONS, Observation, StageRun
from qosflow_airflow.store.summaries import run_line

DIGEST = "ab" * 32
NO_IDS = [
    "00000000-0000-4000-8000-000000000000",
    "",
    "not-a-uuid",
    "'; drop table qosflow.models; --",
    "\x00",
    None,
    7,
]


def test_a_workflow_is_registered_and_replaced(store: Store) -> None:
    first = store.register_workflow("genome", "/bundles/genome", "1000 Genomes")
    assert store.workflow("genome") == first
    assert (first.name, first.bundle_path, first.description) == ("genome", "/bundles/genome", "1000 Genomes")

    second = store.register_workflow("genome", "/elsewhere")

    assert store.workflow("genome") == second
    assert (second.bundle_path, second.description) == ("/elsewhere", "")
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at


def test_workflows_are_listed_by_name(store: Store) -> None:
    for name in ("ddmd", "Genome", "genome", "émission", "pyflex"):
        store.register_workflow(name, "/bundles")
    assert [workflow.name for workflow in store.list_workflows()] == [
        "Genome",
        "ddmd",
        "genome",
        "pyflex",
        "émission",
    ]
    assert [workflow.name for workflow in store.list_workflows(limit=2)] == ["Genome", "ddmd"]


def test_an_unknown_workflow_is_not_found(store: Store) -> None:
    for call in (
        lambda: store.workflow("genome"),
        lambda: store.create_build("genome", {}, {}),
        lambda: store.newest_model("genome"),
    ):
        with pytest.raises(NotFoundError, match=r"'genome' is registered.*qosflow build"):
            call()
    assert store.models("genome") == ()
    assert store.recommendations("genome") == ()


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x00b", "\ud800", None, 3])
def test_a_name_that_cannot_be_kept_is_refused(store: Store, name: str) -> None:
    for call in (store.workflow, store.newest_model, store.models, store.recommendations):
        if name is None and call in (store.models, store.recommendations):
            continue  # there it means every workflow
        with pytest.raises(StoreError, match="the name of a workflow"):
            call(name)
    with pytest.raises(StoreError, match="the name of a workflow"):
        store.register_workflow(name, "/bundles")
    assert store.list_workflows() == ()


def test_names_are_values_not_sql(store: Store, new_model) -> None:
    name = """Robert'); drop table "models"; -- %s %(name)s {0} \\"""
    model = new_model(store, name)
    assert store.workflow(name).name == name
    assert store.newest_model(name) == model


def test_a_build_remembers_what_it_was_started_with(store: Store) -> None:
    store.register_workflow("genome", "/bundles/genome")
    options = {"scales": [2, 5, 10], "rules": "complete", "nested": {"pin": None, "share": 0.1}}
    before = datetime.now(UTC)
    build = store.build(store.create_build("genome", options, {"observations.csv": DIGEST}))
    assert build.workflow == "genome"
    assert build.options == options
    assert build.inputs == {"observations.csv": DIGEST}
    assert build.model_id is None
    assert timedelta(seconds=-1) < build.created_at - before < timedelta(seconds=5)
    assert build.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("digest", ["", "AB" * 32, "ab" * 31, "zz" * 32, "ab" * 32 + "\n", None])
def test_an_input_without_a_hash_is_refused(store: Store, digest: str) -> None:
    store.register_workflow("genome", "/bundles/genome")
    with pytest.raises(StoreError, match=r"inputs\['spm.csv'\]"):
        store.create_build("genome", {}, {"spm.csv": digest})


def test_a_part_is_hashed_and_read_back(store: Store, new_build) -> None:
    build_id = new_build(store)
    content = bytes(range(256)) * 100
    part = store.put_part(build_id, "times", "10", content, "application/x-npz")
    digest = hashlib.sha256(content).hexdigest()
    assert part == Part("times", "10", "application/x-npz", len(content), digest)
    assert store.part(build_id, "times", "10") == content
    assert part in store.list_parts(build_id)


def test_a_retried_task_rewrites_its_part(store: Store, new_build) -> None:
    build_id = new_build(store)
    before = len(store.list_parts(build_id))
    store.put_part(build_id, "regions", None, b"second try", "text/plain")
    assert store.part(build_id, "regions") == b"second try"
    parts = store.list_parts(build_id)
    assert len(parts) == before
    (regions,) = [part for part in parts if part.kind == "regions"]
    assert regions.sha256 == hashlib.sha256(b"second try").hexdigest()
    assert regions.content_type == "text/plain"


def test_parts_are_listed_by_kind_and_scale(store: Store, new_build) -> None:
    build_id = new_build(store)
    store.put_part(build_id, "regions", "2", b"")
    assert [(part.kind, part.scale) for part in store.list_parts(build_id)] == [
        ("configurations", "10"),
        ("configurations", "2"),
        ("regions", None),
        ("regions", "2"),
    ]
    assert len(store.list_parts(build_id, limit=3)) == 3
    assert store.part(build_id, "regions", "2") == b""


def test_a_missing_part_is_named(store: Store, new_build, new_model) -> None:
    build_id = new_build(store)
    with pytest.raises(NotFoundError, match=r"no part configurations at scale 5\."):
        store.part(build_id, "configurations", "5")
    with pytest.raises(NotFoundError, match=r"no part configurations\."):
        store.part(build_id, "configurations")
    model_id = new_model(store).model_id
    with pytest.raises(NotFoundError, match=r"Model .* has no part times\."):
        store.model_part(model_id, "times")


@pytest.mark.parametrize(
    ("kind", "scale", "content"),
    [
        ("", None, b""),
        ("regions", "", b""),
        ("regions", 10, b""),
        (None, None, b""),
        ("a\x00", None, b""),
        ("regions", None, "text"),
        ("regions", None, None),
        ("regions", None, bytearray(b"changes later")),
    ],
)
def test_an_impossible_part_is_refused(store: Store, new_build, kind, scale, content) -> None:
    build_id = new_build(store)
    before = store.list_parts(build_id)
    with pytest.raises(StoreError, match="part"):
        store.put_part(build_id, kind, scale, content)
    assert store.list_parts(build_id) == before


def test_a_part_that_is_too_large_is_refused(store: Store, new_build) -> None:
    build_id = new_build(store)
    with pytest.raises(StoreError, match="Compress it"):
        store.put_part(build_id, "regions", None, bytes(MAX_PART_BYTES + 1))


@pytest.mark.parametrize("identifier", NO_IDS)
def test_what_is_no_identifier_is_not_found(store: Store, identifier: str) -> None:
    for call in (
        store.build,
        store.list_parts,
        lambda build_id: store.part(build_id, "regions"),
        lambda build_id: store.put_part(build_id, "regions", None, b""),
        lambda build_id: store.publish(build_id, {}, [("regions", None)], qosflow_version="1"),
        store.model,
        store.model_parts,
        lambda model_id: store.model_part(model_id, "regions"),
        lambda model_id: store.add_recommendation(RecommendationRecord(model_id, "w", {}, {}, "feasible")),
        store.recommendation,
        store.report_cards,
        lambda model_id: store.add_report_card(model_id, {}),
        store.outcomes,
        lambda recommendation_id: store.add_outcome(recommendation_id, {}),
        store.observations,
        lambda recommendation_id: store.add_observations(
            [Observation(recommendation_id, "a", 0, 1, "success")]
        ),
    ):
        with pytest.raises(NotFoundError, match=r"There is no (build|model|recommendation)"):
            call(identifier)


def test_an_identifier_may_be_spelled_in_capitals(store: Store, new_model) -> None:
    model = new_model(store)
    assert store.model(model.model_id.upper()) == model


def test_publishing_keeps_the_named_parts(store: Store, new_build) -> None:
    build_id = new_build(store)
    model = store.publish(build_id, {"best_s": 140.445}, [("regions", None)], qosflow_version="0.1.0")
    assert model.version == 1
    assert (model.workflow, model.qosflow_version) == ("genome", "0.1.0")
    assert model.summary == {"best_s": 140.445}
    assert model.options == store.build(build_id).options
    assert model.inputs == store.build(build_id).inputs
    assert model.created_at.utcoffset() == timedelta(0)
    assert [(part.kind, part.scale) for part in store.model_parts(model.model_id)] == [("regions", None)]
    assert store.model_part(model.model_id, "regions") == store.part(build_id, "regions")
    assert store.build(build_id).model_id == model.model_id
    assert store.model(model.model_id) == store.newest_model("genome") == model


def test_a_published_build_does_not_change(store: Store, new_model, new_build) -> None:
    build_id = new_build(store)
    model = store.publish(build_id, {}, [("regions", None)], qosflow_version="0.1.0")
    with pytest.raises(StoreError, match=f"published as model {model.model_id}"):
        store.put_part(build_id, "regions", None, b"other")
    assert store.part(build_id, "regions") == b"{}"


def test_publishing_again_returns_the_same_model(store: Store, new_build) -> None:
    build_id = new_build(store)
    first = store.publish(build_id, {"try": 1}, [("regions", None)], qosflow_version="1")
    again = store.publish(build_id, {"try": 2}, [("configurations", "2")], qosflow_version="2")
    assert again == first
    assert store.models("genome") == (first,)
    store.purge_builds(timedelta(0))
    assert store.publish(build_id, {"try": 3}, [("regions", None)], qosflow_version="3") == first
    with pytest.raises(StoreError, match="is published"):
        store.put_part(build_id, "regions", None, b"other")


def test_a_model_without_all_its_parts_is_not_published(store: Store, new_build) -> None:
    build_id = new_build(store)
    with pytest.raises(NotFoundError, match="no part times at scale 2"):
        store.publish(build_id, {}, [("regions", None), ("times", "2")], qosflow_version="1")
    with pytest.raises(StoreError, match="at least one part"):
        store.publish(build_id, {}, [], qosflow_version="1")
    assert store.models() == ()
    assert store.build(build_id).model_id is None
    store.put_part(build_id, "times", "2", b"now there")
    model = store.publish(build_id, {}, [("regions", None), ("times", "2")], qosflow_version="1")
    assert model.version == 1


def test_a_part_named_twice_is_kept_once(store: Store, new_build) -> None:
    model = store.publish(new_build(store), {}, [("regions", None), ("regions", None)], qosflow_version="1")
    assert len(store.model_parts(model.model_id)) == 1


def test_versions_count_up_for_each_workflow(store: Store, new_model) -> None:
    published = [new_model(store, name) for name in ("genome", "ddmd", "genome", "genome", "ddmd")]
    assert [model.version for model in published] == [1, 1, 2, 3, 2]
    assert store.models() == tuple(reversed(published))
    assert [model.version for model in store.models("genome")] == [3, 2, 1]
    assert store.models("genome", limit=1) == (published[3],)
    assert store.newest_model("ddmd") == published[4]


def test_a_workflow_without_a_model_says_so(store: Store) -> None:
    store.register_workflow("genome", "/bundles/genome")
    with pytest.raises(NotFoundError, match=r"'genome' has no model yet.*pipeline"):
        store.newest_model("genome")


def test_old_builds_are_purged_and_models_stay(store: Store, new_build, new_model) -> None:
    model = new_model(store)
    builds = [new_build(store) for _ in range(45)]
    assert store.purge_builds(timedelta(days=7)) == 0
    assert store.part(builds[0], "regions") == b"{}"
    assert store.purge_builds(timedelta(0)) == 46
    for call in (store.build, store.list_parts, lambda build_id: store.part(build_id, "regions")):
        with pytest.raises(NotFoundError, match="pipeline again"):
            call(builds[0])
    assert store.model_part(model.model_id, "configurations", "10") == b"ten nodes"
    assert store.purge_builds(timedelta(0)) == 0


@pytest.mark.parametrize("age", [timedelta(seconds=-1), 7, None])
def test_an_impossible_age_is_refused(store: Store, age: timedelta) -> None:
    with pytest.raises(StoreError, match="older_than"):
        store.purge_builds(age)


def test_a_recommendation_is_read_back(store: Store, new_recommendation) -> None:
    record = new_recommendation(
        store,
        status="infeasible",
        dag_id="genome_local",
        run_id="manual__1",
        task_id="recommend",
        try_number=2,
    )
    assert store.recommendation(record.recommendation_id) == record
    assert record.status == "infeasible"
    assert record.try_number == 2
    assert record.answer == {"nodes": 10, "tiers": {"individuals": "beegfs"}}


def test_recommendations_are_listed_newest_first(store: Store, new_recommendation) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    records = [
        new_recommendation(store, name, created_at=start + timedelta(seconds=at))
        for name, at in (("genome", 3), ("ddmd", 1), ("genome", 2), ("genome", 2))
    ]
    listed = store.recommendations()
    assert [record.created_at.second for record in listed] == [3, 2, 2, 1]
    assert all(record in listed for record in records)
    assert store.recommendations(limit=2, offset=1) == listed[1:3]
    assert store.recommendations(offset=4) == ()
    assert store.recommendations("genome") == listed[:3]
    assert store.recommendations("ddmd", limit=1) == listed[3:]


def test_the_dags_of_a_workflow_are_named_once_the_last_to_ask_first(
    store: Store, new_recommendation
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    asked = [("b", 1), ("a", 1), ("b", 5), (None, 9), ("c", 7)]
    for dag_id, at in asked:
        new_recommendation(store, dag_id=dag_id, created_at=start + timedelta(seconds=at))
    new_recommendation(store, "ddmd", dag_id="other")
    assert store.dag_ids("genome") == ("c", "b", "a")
    assert store.dag_ids("genome", limit=2) == ("c", "b")
    assert store.dag_ids("unknown") == ()
    with pytest.raises(StoreError):
        store.dag_ids("\x00")


def test_a_workflow_is_summed_up_with_its_newest_model_and_its_newest_runs(
    store: Store, new_model, new_recommendation
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def run(at: int, outcome: object = None, **fields: object) -> RecommendationRecord:
        made = new_recommendation(store, created_at=start + timedelta(seconds=at), **fields)
        if outcome is not None:
            store.add_outcome(made.recommendation_id, outcome)
        return made

    told = run(
        1, {"measured_s": 8.0, "met_deadline": True}, answer={"makespan_s": 5.0, "run_s": 6.5}, dag_id="a"
    )
    odd = run(2, {"measured_s": "long", "met_deadline": 1, "predicted_s": None}, request={})
    again = run(3, {"measured_s": 9, "predicted_s": 7}, status="infeasible", answer={"nearest": None})
    run(4)  # nothing is known of it
    watched = run(5, status="infeasible", answer={"nearest": {"makespan_s": 4.0}, "calibration": {"runs": 2}})
    store.add_observations([Observation(watched.recommendation_id, "sifting", -1, 1, "success")])
    store.register_workflow("bare", "/bundle")

    bare, genome = store.summaries()

    assert (bare.workflow.name, bare.newest_model, bare.calibration, bare.runs) == ("bare", None, None, ())
    assert genome.workflow == store.workflow("genome")
    assert genome.newest_model == store.newest_model("genome")
    assert genome.calibration == {"runs": 2}
    assert [one.recommendation_id for one in genome.runs] == [
        one.recommendation_id for one in (watched, again, odd, told)
    ]
    assert genome.runs == tuple(map(run_line, store.runs("genome")))
    times = [(one.deadline_s, one.predicted_s, one.measured_s, one.met_deadline) for one in genome.runs]
    assert times == [
        (200.0, 4.0, None, None),
        (200.0, 7.0, 9.0, None),
        (None, None, None, None),
        (200.0, 6.5, 8.0, True),
    ]
    assert genome.runs[-1].dag_id == "a"
    assert [len(one.runs) for one in store.summaries(runs=2)] == [0, 2]
    assert [one.workflow.name for one in store.summaries(limit=1)] == ["bare"]
    new_model(store)
    assert store.summaries()[1].calibration is None  # the newest was never asked
    for wrong in (0, 1001):
        with pytest.raises(StoreError):
            store.summaries(runs=wrong)


def test_times_are_kept_in_utc(store: Store, new_recommendation) -> None:
    local = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    record = new_recommendation(store, created_at=local)
    for kept in (record, store.recommendation(record.recommendation_id)):
        assert kept.created_at == local
        assert kept.created_at.isoformat() == "2026-07-01T10:00:00.123456+00:00"


def test_adding_a_recommendation_again_changes_nothing(store: Store, new_recommendation) -> None:
    record = new_recommendation(store)
    assert store.add_recommendation(record) == record
    assert store.recommendations() == (record,)
    with pytest.raises(StoreError, match="cannot change"):
        store.add_recommendation(dataclasses.replace(record, status="infeasible"))
    assert store.recommendation(record.recommendation_id) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "perhaps"}, "status"),
        ({"created_at": datetime(2026, 1, 1)}, "time zone"),
        ({"created_at": "yesterday"}, "time zone"),
        ({"try_number": -1}, "try_number"),
        ({"try_number": 2**31}, "try_number"),
        ({"try_number": "1"}, "try_number"),
        ({"dag_id": ""}, "dag_id"),
        ({"run_id": "a\x00b"}, "run_id"),
        ({"workflow": "ddmd"}, "its model is of 'genome'"),
        ({"request": {"deadline_s": float("nan")}}, r"request\.deadline_s"),
        ({"answer": None}, "answer"),
        ({"recommendation_id": "mine"}, "recommendation 'mine'"),
    ],
)
def test_an_impossible_recommendation_is_refused(store: Store, new_model, change, message) -> None:
    model = new_model(store)
    values = {
        "model_id": model.model_id,
        "workflow": "genome",
        "request": {},
        "answer": {},
        "status": "feasible",
    }
    with pytest.raises(StoreError, match=message):
        store.add_recommendation(RecommendationRecord(**(values | change)))
    assert store.recommendations() == ()


def test_outcomes_are_read_newest_first(store: Store, new_recommendation) -> None:
    mine, other = new_recommendation(store), new_recommendation(store)
    for measured_s in (150.5, 149.0, 151.25):
        added = store.add_outcome(mine.recommendation_id, {"measured_s": measured_s})
        assert added.recommendation_id == mine.recommendation_id
        assert added.created_at.utcoffset() == timedelta(0)
    store.add_outcome(other.recommendation_id, {"measured_s": None})
    outcomes = store.outcomes(mine.recommendation_id)
    assert [outcome.outcome["measured_s"] for outcome in outcomes] == [151.25, 149.0, 150.5]
    assert outcomes[0] == added
    assert store.outcomes(mine.recommendation_id, limit=1) == outcomes[:1]
    assert [outcome.outcome for outcome in store.outcomes(other.recommendation_id)] == [{"measured_s": None}]


def test_a_recommendation_without_outcomes_has_none(store: Store, new_recommendation) -> None:
    assert store.outcomes(new_recommendation(store).recommendation_id) == ()


def test_report_cards_are_read_newest_first(store: Store, new_model) -> None:
    mine, other = new_model(store), new_model(store)
    assert store.report_cards(mine.model_id) == ()
    for concordance in (0.91, 0.97):
        added = store.add_report_card(mine.model_id, {"concordance": concordance})
        assert added.model_id == mine.model_id
        assert added.created_at.utcoffset() == timedelta(0)
    store.add_report_card(other.model_id, {"concordance": None})
    cards = store.report_cards(mine.model_id)
    assert [card.report["concordance"] for card in cards] == [0.97, 0.91]
    assert cards[0] == added
    assert store.report_cards(mine.model_id, limit=1) == cards[:1]
    cards[0].report.clear()
    assert store.report_cards(mine.model_id)[0].report == {"concordance": 0.97}


def test_what_is_stored_is_a_copy(store: Store, new_build) -> None:
    options = {"scales": [2, 5]}
    store.register_workflow("genome", "/bundles/genome")
    build_id = store.create_build("genome", options, {})
    options["scales"].append(10)
    store.build(build_id).options["scales"].append(20)
    assert store.build(build_id).options == {"scales": [2, 5]}

    summary = {"rules": ["a"]}
    model = store.publish(new_build(store), summary, [("regions", None)], qosflow_version="1")
    summary["rules"].append("b")
    model.summary["rules"].append("c")
    model.inputs.clear()
    assert store.model(model.model_id).summary == {"rules": ["a"]}
    assert store.models()[0].inputs == {"workflow.yaml": "0123456789abcdef" * 4}

    answer = {"tiers": {"individuals": "ssd"}}
    record = store.add_recommendation(RecommendationRecord(model.model_id, "genome", {}, answer, "feasible"))
    read, listed = store.recommendation(record.recommendation_id), store.recommendations()[0]
    for mine in (answer, record.answer, read.answer, listed.answer):
        mine["tiers"]["individuals"] = "tmpfs"
    assert store.recommendations()[0].answer == {"tiers": {"individuals": "ssd"}}

    outcome = {"stages": []}
    store.add_outcome(record.recommendation_id, outcome).outcome["stages"].append(1)
    outcome["stages"].append(2)
    assert store.outcomes(record.recommendation_id)[0].outcome == {"stages": []}


@pytest.mark.parametrize("limit", [0, -1, 1001, 10**9, None, 1.5, "5", True])
def test_listings_are_bounded(store: Store, new_recommendation, limit: int) -> None:
    record = new_recommendation(store)
    build_id = store.create_build("genome", {}, {})
    for call in (
        lambda: store.list_workflows(limit),
        lambda: store.list_parts(build_id, limit),
        lambda: store.models(limit=limit),
        lambda: store.model_parts(record.model_id, limit),
        lambda: store.recommendations(limit=limit),
        lambda: store.outcomes(record.recommendation_id, limit),
        lambda: store.observations(record.recommendation_id, limit),
        lambda: store.runs("genome", limit),
        lambda: store.task_observations("d", "r", "t", limit),
        lambda: store.report_cards(record.model_id, limit),
    ):
        with pytest.raises(StoreError, match="limit is"):
            call()


@pytest.mark.parametrize("offset", [-1, 2**31, 0.5, None])
def test_an_impossible_offset_is_refused(store: Store, offset: int) -> None:
    with pytest.raises(StoreError, match="offset is"):
        store.recommendations(offset=offset)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_unknown_is_null_not_nan(store: Store, new_recommendation, new_build, value: float) -> None:
    record = new_recommendation(store)
    build_id = new_build(store)
    payload = {"stages": [{"seconds": 1.0}, {"seconds": value}]}
    for call, name in (
        (lambda: store.create_build("genome", payload, {}), "options"),
        (lambda: store.publish(build_id, payload, [("regions", None)], qosflow_version="1"), "summary"),
        (lambda: store.add_outcome(record.recommendation_id, payload), "outcome"),
        (lambda: store.add_report_card(record.model_id, payload), "report"),
    ):
        with pytest.raises(StoreError, match=rf"{name}\.stages\[1\]\.seconds is .*None"):
            call()
    assert store.build(build_id).model_id is None
    assert store.outcomes(record.recommendation_id) == ()
    assert store.report_cards(record.model_id) == ()


def test_threads_may_share_a_store(store: Store, new_build) -> None:
    store.register_workflow("genome", "/bundles/genome")

    def work(number: int) -> int:
        build_id = new_build(store)
        store.put_part(build_id, "times", str(number), str(number).encode())
        assert store.part(build_id, "times", str(number)) == str(number).encode()
        return store.publish(build_id, {}, [("times", str(number))], qosflow_version="1").version

    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(work, range(24)))
    assert sorted(versions) == list(range(1, 25))


def test_one_build_published_by_many_is_one_model(store: Store, new_build) -> None:
    build_id = new_build(store)

    def publish(_: int) -> str:
        return store.publish(build_id, {}, [("regions", None)], qosflow_version="1").model_id

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(publish, range(16)))) == 1
    assert len(store.models()) == 1


def test_a_closed_store_refuses(store: Store) -> None:
    store.ping()
    store.close()
    store.close()
    for call in (store.ping, store.list_workflows, lambda: store.register_workflow("genome", "/bundles")):
        with pytest.raises(StoreError, match="closed"):
            call()


# Finished tasks


def observed(
    recommendation_id: str, stage: str = "split", map_index: int = 0, **fields: object
) -> Observation:
    values: dict = {"try_number": 1, "state": "success", "count": 2, "start_s": 100.0, "end_s": 110.0}
    return Observation(recommendation_id, stage, map_index, **(values | fields))


def test_an_observation_comes_back_as_it_was(store: Store, new_recommendation) -> None:
    record = new_recommendation(store)
    whole = observed(
        record.recommendation_id,
        work_start_s=100.25,
        work_end_s=109.5,
        queue_s=0.125,
        read_bytes=2**40,
        write_bytes=0,
        tier="ssd",
        host="node-1",
        dag_id="dag",
        run_id="run",
        task_id="split.run",
        load=0.75,
        load_source="host",
        dag_version="v7",
        image="app:1",
    )
    bare = Observation(record.recommendation_id, "merge", -1, 2, "failed", "user")
    assert store.add_observations([whole, bare]) == 2
    assert store.observations(record.recommendation_id) == (bare, whole)
    assert store.observations(record.recommendation_id, limit=1) == (bare,)


def test_an_event_that_comes_twice_is_kept_once(store: Store, new_recommendation) -> None:
    record = new_recommendation(store)
    first = observed(record.recommendation_id)
    assert store.add_observations([first, first]) == 1
    assert store.add_observations([dataclasses.replace(first, end_s=999.0, state="failed")]) == 0
    assert store.observations(record.recommendation_id) == (first,)
    others = [dataclasses.replace(first, try_number=2), dataclasses.replace(first, source="user")]
    assert store.add_observations(others) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "running"},
        {"source": "nobody"},
        {"map_index": -2},
        {"try_number": True},
        {"count": 0},
        {"tasks": 1.5},
        {"start_s": float("nan")},
        {"end_s": "now"},
        {"read_bytes": -1},
        {"stage": ""},
        {"host": "a\x00b"},
        {"load": 0.5},
        {"load_source": "host"},
        {"load": float("inf"), "load_source": "host"},
    ],
)
def test_an_observation_that_cannot_be_is_refused_with_all_beside_it(
    store: Store, new_recommendation, wrong: dict
) -> None:
    good = observed(new_recommendation(store).recommendation_id)
    with pytest.raises(StoreError):
        store.add_observations([good, dataclasses.replace(good, **({"map_index": 1} | wrong))])
    assert store.observations(good.recommendation_id) == ()


def test_observations_come_in_portions(store: Store, new_recommendation) -> None:
    identifier = new_recommendation(store).recommendation_id
    with pytest.raises(StoreError, match="portions"):
        store.add_observations([observed(identifier)] * (MAX_OBSERVATIONS + 1))


def test_a_stage_has_the_load_of_its_tasks_and_the_codes_that_they_ran(
    store: Store, new_recommendation
) -> None:
    identifier = new_recommendation(store).recommendation_id
    host = {"load_source": "host"}
    store.add_observations(
        [
            observed(identifier, "one", 0, load=0.25, image="b:1", **host),
            observed(identifier, "one", 1, load=0.75, image="B:1", dag_version="v", **host),
            observed(identifier, "one", 2),
            observed(identifier, "one", 3, load=9.0, image="failed", state="failed", **host),
            observed(identifier, "two", 0, load=0.5, **host),
            observed(identifier, "two", 1, load=0.5, load_source="prometheus"),
        ]
    )
    one, two = store.runs("genome")[0].stages
    assert (one.load, one.load_source, one.dag_versions, one.images) == (0.5, "host", ("v",), ("B:1", "b:1"))
    assert (two.load, two.load_source, two.dag_versions, two.images) == (None, None, (), ())


def test_runs_are_those_that_something_is_known_of_newest_first(store: Store, new_recommendation) -> None:
    now = datetime.now(UTC)
    answer = {"makespan_s": 9.5, "configuration": {"nodes": 1, "tiers": {"split": "ssd"}}}
    old, unknown, new = (
        new_recommendation(
            store, answer=answer, created_at=now + timedelta(seconds=at), dag_id="dag", run_id="r"
        )
        for at in range(3)
    )
    other = new_recommendation(store, "ddmd")
    store.add_outcome(other.recommendation_id, {})
    store.add_outcome(old.recommendation_id, {"measured_s": 1.0})
    store.add_outcome(old.recommendation_id, {"measured_s": 2.0})
    store.add_observations([observed(new.recommendation_id)])
    runs = store.runs("genome")
    assert [run.recommendation_id for run in runs] == [new.recommendation_id, old.recommendation_id]
    assert [run.outcome for run in runs] == [None, {"measured_s": 2.0}]
    assert runs[0].configuration == answer["configuration"]
    assert (runs[0].predicted_s, runs[0].deadline_s, runs[0].status) == (9.5, 200.0, "feasible")
    assert (runs[0].dag_id, runs[0].run_id, runs[0].created_at) == ("dag", "r", new.created_at)
    assert store.runs("genome", limit=1) == runs[:1]
    everything = store.runs("genome", with_unfinished=True)
    assert [run.recommendation_id for run in everything][1] == unknown.recommendation_id
    assert store.runs("nobody") == ()


def test_what_an_infeasible_request_ran_on_is_the_nearest(store: Store, new_recommendation) -> None:
    nearest = {"makespan_s": 5.0, "configuration": {"nodes": 2, "tiers": {}}}
    new_recommendation(store, answer={"nearest": nearest}, status="infeasible")
    new_recommendation(store, answer={"nearest": None}, status="infeasible")
    found = {run.predicted_s: run.configuration for run in store.runs("genome", with_unfinished=True)}
    assert found == {5.0: nearest["configuration"], None: None}


def test_a_stage_of_a_run_is_summed_up_over_first_tries_that_succeeded(
    store: Store, new_recommendation
) -> None:
    identifier = new_recommendation(store).recommendation_id
    store.add_observations(
        [
            observed(identifier, map_index=0, start_s=100.0, end_s=110.0, read_bytes=5),
            observed(
                identifier, map_index=1, start_s=101.0, end_s=112.0, work_start_s=103.0, work_end_s=111.0
            ),
            observed(identifier, map_index=1, try_number=2, start_s=1.0, end_s=999.0),
            observed(identifier, map_index=0, source="user", start_s=1.0, end_s=999.0),
            observed(identifier, "merge", map_index=-1, state="failed", count=1),
            observed(identifier, "odd", map_index=-1, start_s=50.0, end_s=40.0, count=1),
            observed(identifier, "vague", map_index=-1, start_s=None, tasks=3, count=3),
        ]
    )
    (run,) = store.runs("genome")
    assert run.stages == (
        StageRun("merge", 1, 0, 1, 0, None, None, first_s=100.0, last_s=110.0),
        StageRun("odd", 1, 1, 0, 1, 50.0, 40.0),
        StageRun("split", 2, 2, 2, 0, 100.0, 111.0, 5, None, first_s=1.0, last_s=999.0),
        StageRun("vague", 3, 3, 0, 0, None, None),
    )


def test_how_long_a_stage_waited_is_told_by_the_first_tries_of_its_tasks(
    store: Store, new_recommendation
) -> None:
    identifier = new_recommendation(store).recommendation_id
    store.add_observations(
        [
            observed(identifier, map_index=0, start_s=100.0, queue_s=2.5),
            observed(identifier, map_index=1, start_s=104.0, queue_s=6.0, state="failed"),
            observed(identifier, map_index=1, start_s=130.0, queue_s=32.0, try_number=2),
            observed(identifier, map_index=0, start_s=1.0, queue_s=90.0, source="user"),
            observed(identifier, map_index=2, start_s=None, queue_s=70.0),
            observed(identifier, map_index=3, start_s=99.0),
        ]
    )
    (run,) = store.runs("genome")
    assert (run.stages[0].ready_s, run.stages[0].queue_s) == (97.5, 6.0)


def test_runs_of_a_dag_and_of_a_dag_run_are_found(store: Store, new_recommendation) -> None:
    def made(minute: int, workflow: str = "genome", **fields: object) -> RecommendationRecord:
        at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
        return new_recommendation(store, workflow, created_at=at, **fields)

    first = made(1, dag_id="nightly", run_id="one", task_id="recommend")
    planned = {"recommendation_id": first.recommendation_id, "begun": {}, "failed": {}}
    again = made(2, dag_id="nightly", run_id="one", task_id="merge.stage_in", answer={"replans": planned})
    other = made(3, "ddmd", dag_id="nightly", run_id="two")
    made(4, dag_id="weekly", run_id="one")
    made(5, dag_id=None)

    def found(**of: str) -> list[str]:
        return [run.recommendation_id for run in store.runs(**of, with_unfinished=True)]

    of_run = [again.recommendation_id, first.recommendation_id]
    assert found(dag_id="nightly") == [other.recommendation_id, *of_run]
    assert found(dag_id="nightly", run_id="one") == of_run
    assert found(dag_id="nightly", workflow="ddmd") == [other.recommendation_id]
    assert found(dag_id="nobody") == []
    for of in ({"dag_id": "nightly"}, {"dag_id": "nightly", "run_id": "one"}, {"workflow": "ddmd"}, {}):
        assert [one.recommendation_id for one in store.recommendations(**of)] == found(**of)
    assert len(store.runs(with_unfinished=True)) == 5
    assert store.runs(dag_id="nightly") == ()
    newest, oldest = store.runs(dag_id="nightly", run_id="one", with_unfinished=True)
    assert (newest.replans, newest.task_id) == (first.recommendation_id, "merge.stage_in")
    assert (oldest.replans, oldest.task_id) == (None, "recommend")


def test_what_a_task_told_in_a_run_is_found_by_its_name(store: Store, new_recommendation) -> None:
    task = {"dag_id": "nightly", "run_id": "one", "task_id": "split.run"}
    record = new_recommendation(store, dag_id="nightly", run_id="one")
    again = new_recommendation(store, dag_id="nightly", run_id="one")
    elsewhere = new_recommendation(store, dag_id="nightly", run_id="two")
    first = observed(record.recommendation_id, map_index=0, state="failed", **task)
    second = observed(again.recommendation_id, map_index=0, try_number=2, **task)
    third = observed(again.recommendation_id, map_index=10, **task)
    store.add_observations(
        [
            *(third, second, first),
            observed(record.recommendation_id, map_index=4, **(task | {"task_id": "merge.run"})),
            observed(record.recommendation_id, map_index=5, **(task | {"run_id": "two"})),
            observed(elsewhere.recommendation_id, map_index=6, **task),
            observed(record.recommendation_id, map_index=7),
        ]
    )
    assert store.task_observations(**task) == (first, second, third)
    assert store.task_observations(**task, limit=2) == (first, second)
    assert store.task_observations("nightly", "one", "clean") == ()


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 2000, 7])
def test_names_that_airflow_does_not_give_are_refused(store: Store, name) -> None:
    for call in (
        lambda: store.runs(dag_id=name),
        lambda: store.recommendations(dag_id=name),
        lambda: store.runs(dag_id="d", run_id=name),
        lambda: store.runs(name),
        lambda: store.task_observations("d", "r", name),
        lambda: store.task_observations(name, "r", "t"),
    ):
        with pytest.raises(StoreError):
            call()


def test_the_dags_of_recommendations_are_told_at_once(store: Store, new_recommendation) -> None:
    nightly = new_recommendation(store, dag_id="nightly").recommendation_id
    by_hand = new_recommendation(store).recommendation_id
    asked = [nightly.upper(), by_hand, str(UUID(int=0)), "none", "\x00"]
    assert store.dags_of(asked) == {nightly.upper(): "nightly", by_hand: None}
    assert store.dags_of([]) == {}
    with pytest.raises(StoreError, match="at most 1000"):
        store.dags_of([str(UUID(int=number)) for number in range(1001)])
