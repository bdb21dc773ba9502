"""Publishing stays whole: with rivals, with killed connections and with killed processes."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest
from psycopg2 import extensions

from qosflow_airflow.exceptions import StoreUnavailableError
from qosflow_airflow.store.base import ModelVersion
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.store.queries import queries

KINDS = [("configurations", "2"), ("configurations", "10"), ("regions", None)]

PUBLISHER = textwrap.dedent(
    """
    import sys
    from qosflow_airflow.store.postgres import PostgresStore

    store = PostgresStore(sys.argv[1])
    for number in range(int(sys.argv[2])):
        build_id = store.create_build("genome", {}, {})
        for position in range(4):
            store.put_part(build_id, "part", str(position), b"%d of 4" % position * 1000)
        print(build_id, flush=True)
        store.publish(build_id, {}, [("part", str(position)) for position in range(4)], qosflow_version="1")
    """
)


@pytest.fixture
def hold_publishers(url: str) -> Callable[[], closing[extensions.connection]]:
    """Stop publishers where each has numbered its model and is about to copy the first part."""

    def hold() -> closing[extensions.connection]:
        connection = psycopg2.connect(url)
        with connection.cursor() as cursor:
            cursor.execute("lock table qosflow.model_parts in share mode")
        return closing(connection)

    return hold


def blocked_publisher(raw: extensions.connection, within_s: float = 15.0) -> int:
    """Wait until a publisher stands at the lock, and return the process number of its server side."""
    raw.autocommit = True
    end = time.monotonic() + within_s
    with raw.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute(
                "select pid from pg_stat_activity where datname = current_database()"
                " and wait_event_type = 'Lock' and query like '%insert into qosflow.model_parts%'"
            )
            if found := cursor.fetchone():
                return int(found[0])
            time.sleep(0.02)
    raise AssertionError("no publisher came to the lock")


def test_two_publishers_take_turns(open_postgres, new_build) -> None:
    stores = [open_postgres(max_connections=1) for _ in range(2)]
    builds = [[new_build(store) for _ in range(8)] for store in stores]
    start = threading.Barrier(2)

    def publish(number: int) -> list[ModelVersion]:
        start.wait(10)
        return [stores[number].publish(build, {}, KINDS, qosflow_version="1") for build in builds[number]]

    with ThreadPoolExecutor(2) as threads:
        published = [model for models in threads.map(publish, range(2)) for model in models]

    assert sorted(model.version for model in published) == list(range(1, 17))
    by_version = sorted(published, key=lambda model: model.version)
    assert by_version == sorted(published, key=lambda model: model.created_at)
    assert stores[0].models("genome") == tuple(reversed(by_version))


def test_a_second_publisher_waits_for_the_first(open_postgres, new_build, hold_publishers, raw) -> None:
    first, second = open_postgres(), open_postgres()
    builds = [new_build(first), new_build(first)]
    with hold_publishers() as lock, ThreadPoolExecutor(2) as threads:
        one = threads.submit(first.publish, builds[0], {}, KINDS, qosflow_version="1")
        blocked_publisher(raw)
        two = threads.submit(second.publish, builds[1], {}, KINDS, qosflow_version="1")
        time.sleep(0.3)
        assert not two.done()
        assert first.models() == ()
        lock.rollback()
        assert (one.result(10).version, two.result(10).version) == (1, 2)


def test_a_publisher_holds_up_no_other_workflow_and_no_new_build(open_postgres, new_build, raw) -> None:
    store = open_postgres(statement_timeout_s=2)
    build = new_build(store, "ddmd")
    new_build(store, "genome")
    with raw.cursor() as cursor:
        cursor.execute(queries()["lock_workflow"], {"workflow": "genome"})
        assert store.publish(build, {}, KINDS, qosflow_version="1").version == 1
        assert store.create_build("genome", {}, {})
    raw.rollback()


def test_no_part_changes_while_its_build_is_published(open_postgres, new_build, hold_publishers, raw) -> None:
    publisher, writer = open_postgres(), open_postgres()
    build = new_build(publisher)
    with hold_publishers() as lock, ThreadPoolExecutor(2) as threads:
        publishing = threads.submit(publisher.publish, build, {}, KINDS, qosflow_version="1")
        blocked_publisher(raw)
        writing = threads.submit(writer.put_part, build, "regions", None, b"too late")
        time.sleep(0.3)
        assert not writing.done()
        lock.rollback()
        model = publishing.result(10)
        assert f"published as model {model.model_id}" in str(writing.exception(10))
    assert writer.part(build, "regions") == writer.model_part(model.model_id, "regions") == b"{}"


def test_a_purge_leaves_the_build_that_is_being_published(
    open_postgres, new_build, hold_publishers, raw
) -> None:
    publisher, purger = open_postgres(), open_postgres()
    build, other = new_build(publisher), new_build(publisher)
    with hold_publishers() as lock, ThreadPoolExecutor(1) as threads:
        publishing = threads.submit(publisher.publish, build, {}, KINDS, qosflow_version="1")
        blocked_publisher(raw)
        assert purger.purge_builds(timedelta(0)) == 1
        lock.rollback()
        assert publishing.result(10).version == 1
    assert purger.build(build).model_id is not None
    assert other not in _builds(raw)


def test_a_connection_killed_in_the_middle_leaves_the_old_version(
    open_postgres, new_build, new_model, hold_publishers, raw
) -> None:
    store = open_postgres()
    old = new_model(store)
    build = new_build(store)
    with hold_publishers() as lock, ThreadPoolExecutor(1) as threads:
        publishing = threads.submit(store.publish, build, {}, KINDS, qosflow_version="1")
        server_side = blocked_publisher(raw)
        with raw.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s, 5000)", (server_side,))
        assert isinstance(publishing.exception(10), StoreUnavailableError)
        assert store.models() == (old,)
        lock.rollback()
    new = store.publish(build, {}, KINDS, qosflow_version="1")
    assert new.version == 2
    assert _is_whole(store, new)


def test_a_process_killed_in_the_middle_leaves_the_old_version(
    url, open_postgres, new_build, new_model, hold_publishers, raw
) -> None:
    store = open_postgres()
    old = new_model(store)
    with hold_publishers() as lock:
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, url, "1"], stdout=subprocess.PIPE, text=True
        )
        build = publisher.stdout.readline().strip()
        blocked_publisher(raw)
        publisher.kill()
        assert publisher.wait(10) != 0
        publisher.stdout.close()
        assert store.models() == (old,)
        lock.rollback()
    # What the dead one held is free as soon as the server notices, and nobody has to clean up.
    new = store.publish(build, {}, [("part", "0"), ("part", "3")], qosflow_version="1")
    assert new.version == 2
    assert store.models() == (new, old)
    assert store.model_part(new.model_id, "part", "3") == b"3 of 4" * 1000


def test_processes_killed_anywhere_leave_only_whole_models(url, open_postgres) -> None:
    store = open_postgres()
    store.register_workflow("genome", "/bundles/genome")
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for _ in range(4):
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, url, "10000"], stdout=subprocess.PIPE, text=True
        )
        publisher.stdout.readline()
        time.sleep(moments.uniform(0.02, 0.2))
        publisher.kill()
        publisher.wait(10)
        publisher.stdout.close()
    build = store.create_build("genome", {}, {})
    for position in range(4):
        store.put_part(build, "part", str(position), b"%d of 4" % position * 1000)
    last = store.publish(build, {}, [("part", str(scale)) for scale in range(4)], qosflow_version="1")
    models = store.models("genome", limit=1000)
    assert models[0] == last
    assert last.version > 4, "the processes were killed before they published anything"
    assert [model.version for model in reversed(models)] == list(range(1, len(models) + 1)), f"seed {seed}"
    for model in models:
        for position in range(4):
            content = store.model_part(model.model_id, "part", str(position))
            assert content == b"%d of 4" % position * 1000, f"seed {seed}"


def _builds(raw: extensions.connection) -> list[str]:
    with raw.cursor() as cursor:
        cursor.execute("select build_id::text from qosflow.builds")
        return [build_id for (build_id,) in cursor.fetchall()]


def _is_whole(store: PostgresStore, model: ModelVersion) -> bool:
    kept = {(part.kind, part.scale) for part in store.model_parts(model.model_id)}
    return kept == set(KINDS) and all(store.model_part(model.model_id, *key) for key in KINDS)
