"""What only Postgres can get wrong: connections, timeouts, secrets, rights, and rows that must not change."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from psycopg2 import errors, extensions

from qosflow_airflow.exceptions import NotFoundError, StoreError, StoreUnavailableError
from qosflow_airflow.store import open_store
from qosflow_airflow.store.finished_runs import Observation
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.store.queries import queries

SECRET = "s3cret-Password"
NO_FILTER = {"workflow": None, "dag_id": None, "run_id": None}


def with_password(url: str, password: str) -> str:
    """Return the URL with another password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{password}@{parts.hostname}:{parts.port}"))


def terminate_all(raw: extensions.connection) -> int:
    """End every connection of a store, as a restart of the server does; return how many there were."""
    with raw, raw.cursor() as cursor:
        cursor.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and application_name = 'qosflow'"
        )
        return cursor.rowcount


def connections(raw: extensions.connection) -> int:
    with raw, raw.cursor() as cursor:
        cursor.execute(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and application_name = 'qosflow'"
        )
        (number,) = cursor.fetchone()
    return number


# Where to


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg", "Postgres"]
)
def test_the_usual_urls_open_the_store(url: str, scheme: str) -> None:
    with open_store(url.replace("postgresql", scheme, 1)) as store:
        store.ping()


def test_options_of_the_url_count(url: str) -> None:
    with open_store(f"{url}?application_name=mine&sslmode=disable") as store:
        store.ping()
        with closing(psycopg2.connect(url)) as raw, raw.cursor() as cursor:
            cursor.execute("select count(*) from pg_stat_activity where application_name = 'mine'")
            assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://root:{SECRET}@db/qosflow",
        f"sqlite:///{SECRET}.db",
        f"host=db pass={SECRET} {SECRET}",
        f"postgresql://user:%zz{SECRET}@db/qosflow",
        f"postgresql://user:{SECRET}@[::1/qosflow",
        f"postgresql://user:{SECRET}@db/qosflow?{SECRET}=1",
        f"postgresql://user:{SECRET}\x00@db/qosflow",
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreError, match="postgresql://user:password@host") as caught:
        open_store(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_shows_the_password(url: str) -> None:
    store = PostgresStore(with_password(url, SECRET))
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as caught:
        store.ping()
    shown = f"{store!r} {store.database!r} {caught.value} {caught.value!r} {caught.value.__cause__}"
    assert SECRET not in shown
    assert "127.0.0.1" in repr(store)


def test_a_server_that_is_not_there_is_named() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    store = PostgresStore(f"postgresql://qosflow:{SECRET}@127.0.0.1:{port}/qosflow")
    with pytest.raises(
        StoreUnavailableError, match=f"127.0.0.1:{port}/qosflow.*Check that Postgres runs"
    ) as caught:
        store.list_workflows()
    assert SECRET not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_server_that_never_answers_is_given_up() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        store = PostgresStore(f"host=127.0.0.1 port={server.getsockname()[1]}", connect_timeout_s=2)
        start = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="timeout"):
            store.ping()
        assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 0},
        {"statement_timeout_s": 0},
        {"statement_timeout_s": -1.0},
        {"connect_timeout_s": 0},
    ],
)
def test_impossible_settings_are_refused(url: str, options: dict) -> None:
    with pytest.raises(StoreError, match="must be positive"):
        PostgresStore(url, **options)


# Lost connections


def test_a_connection_lost_between_calls_is_replaced_unnoticed(postgres, raw, new_model) -> None:
    model = new_model(postgres)
    assert terminate_all(raw) == 1
    assert postgres.newest_model("genome") == model


def test_a_connection_lost_within_a_call_is_an_error_and_the_next_call_works(postgres, raw) -> None:
    postgres.register_workflow("genome", "/first")
    with raw.cursor() as cursor:
        cursor.execute("lock table qosflow.workflows in share mode")
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(postgres.register_workflow, "genome", "/second")
            _wait_until_blocked(raw)
            with closing(psycopg2.connect(raw.dsn, password="test")) as other:
                assert terminate_all(other) == 1
            with pytest.raises(StoreUnavailableError, match=r"was lost: .*\. Nothing was half-written"):
                call.result(10)
    raw.rollback()
    assert postgres.workflow("genome").bundle_path == "/first"
    assert postgres.register_workflow("genome", "/second").bundle_path == "/second"


def test_an_exception_in_the_middle_rolls_back(postgres, raw, new_build, monkeypatch) -> None:
    """Airflow stops a task by raising in it, wherever it is."""
    build_id = new_build(postgres)

    class Stopped(BaseException):
        pass

    real = psycopg2.extras.RealDictCursor.execute

    def execute(cursor, query, parameters=None):
        if query == queries()["copy_part"]:
            raise Stopped
        return real(cursor, query, parameters)

    monkeypatch.setattr(psycopg2.extras.RealDictCursor, "execute", execute)
    with pytest.raises(Stopped):
        postgres.publish(build_id, {}, [("regions", None)], qosflow_version="1")
    monkeypatch.undo()
    assert postgres.models() == ()
    assert postgres.publish(build_id, {}, [("regions", None)], qosflow_version="1").version == 1
    assert connections(raw) == 1


# Waiting


def test_a_statement_that_takes_too_long_is_stopped(open_postgres, raw) -> None:
    store = open_postgres(statement_timeout_s=0.3)
    store.register_workflow("genome", "/first")
    with raw.cursor() as cursor:
        cursor.execute("lock table qosflow.workflows in share mode")
        with pytest.raises(StoreError, match=r"statement timeout\. .*less busy") as caught:
            store.register_workflow("genome", "/second")
    assert not isinstance(caught.value, StoreUnavailableError)
    raw.rollback()
    assert store.workflow("genome").bundle_path == "/first"


def test_a_client_that_stops_in_the_middle_gives_its_locks_back(open_postgres, raw, new_build) -> None:
    store = open_postgres(statement_timeout_s=0.3)
    build_id = new_build(store)

    def stop_in_the_middle() -> None:
        with store._pool.transaction() as cursor:
            cursor.execute(queries()["lock_build_for_publishing"], {"build_id": build_id})
            time.sleep(1)

    with pytest.raises(StoreUnavailableError, match="was lost"):
        stop_in_the_middle()
    store.put_part(build_id, "regions", None, b"free again")


def test_connections_are_limited_and_shared(open_postgres, raw) -> None:
    store = open_postgres(max_connections=2)
    store.register_workflow("genome", "/bundles")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: store.workflow("genome"), range(100)))
        assert 1 <= connections(raw) <= 2
    store.close()
    assert _eventually(lambda: connections(raw) == 0)


def test_a_store_whose_connections_are_all_busy_says_so(open_postgres) -> None:
    store = open_postgres(max_connections=1, statement_timeout_s=0.1, connect_timeout_s=1)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with store._pool.transaction():
            held.set()
            release.wait(10)

    with ThreadPoolExecutor(1) as threads:
        holder = threads.submit(hold)
        assert held.wait(5)
        with pytest.raises(StoreError, match=r"All 1 connections .* are busy"):
            store.ping()
        release.set()
        # Idle in its transaction for longer than the server allows, as the test above shows.
        assert isinstance(holder.exception(10), StoreUnavailableError)
    store.ping()


def test_a_store_closed_while_in_use_lets_the_call_finish(open_postgres, raw) -> None:
    store = open_postgres()
    with store._pool.transaction() as cursor:
        store.close()
        cursor.execute("select 1 as one")
        assert cursor.fetchone() == {"one": 1}
    assert _eventually(lambda: connections(raw) == 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_connections_of_its_own(postgres) -> None:
    def server_side() -> int:
        with postgres._pool.transaction() as cursor:
            cursor.execute("select pg_backend_pid() as pid")
            return cursor.fetchone()["pid"]

    before = server_side()
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            outcome = 2 if server_side() == before else 0
            postgres.close()
        finally:
            os._exit(outcome)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server_side() == before


# Reading


def test_what_is_read_together_is_one_transaction_of_its_thread(postgres: PostgresStore) -> None:
    def now() -> object:
        """Return when the transaction began."""
        with postgres._pool.transaction() as cursor:
            cursor.execute("select now() as now")
            return cursor.fetchone()["now"]

    assert now() != now()
    with postgres.reading():
        first = now()
        with postgres.reading():
            assert now() == first
        assert now() == first
        with ThreadPoolExecutor(1) as other:
            assert other.submit(now).result() != first
    assert now() != first


def test_what_fails_while_reading_says_so_and_the_store_goes_on(postgres: PostgresStore) -> None:
    with pytest.raises(StoreError, match=r"^The QoSFlow database at .* refused: .*uuid"), postgres.reading():
        postgres._rows("model", model_id="no identifier")
    with pytest.raises(NotFoundError), postgres.reading():
        postgres.newest_model("nobody's")
    assert postgres.list_workflows() == ()


# Rights


def test_missing_rights_are_named(url: str, raw) -> None:
    role = f"reader_{os.getpid()}"
    with raw, raw.cursor() as cursor:
        cursor.execute(f"create role {role} login password 'reader'")
    try:
        parts = urlsplit(url)
        address = f"postgresql://{role}:reader@{parts.hostname}:{parts.port}{parts.path}"
        with PostgresStore(address) as store:
            with pytest.raises(StoreError, match=r"permission denied for schema qosflow\. Grant"):
                store.list_workflows()
            with raw, raw.cursor() as cursor:
                cursor.execute(f"grant usage on schema qosflow to {role}")
                cursor.execute(f"grant select on all tables in schema qosflow to {role}")
            assert store.list_workflows() == ()
            with pytest.raises(StoreError, match=r"permission denied for table workflows\. Grant"):
                store.register_workflow("genome", "/bundles")
    finally:
        with raw, raw.cursor() as cursor:
            cursor.execute(f"drop owned by {role}; drop role {role}")


def test_a_read_only_server_is_named(url: str) -> None:
    with PostgresStore(f"{url}?options=-cdefault_transaction_read_only%3Don") as store:
        with pytest.raises(StoreError, match=r"read-only transaction\. .*primary server"):
            store.register_workflow("genome", "/bundles")
        with pytest.raises(NotFoundError):
            store.workflow("genome")


# Rows that never change


@pytest.mark.parametrize(
    "table", ["models", "model_parts", "recommendations", "outcomes", "report_cards", "observations"]
)
@pytest.mark.parametrize(
    "change", ["update qosflow.{0} set {1}", "delete from qosflow.{0}", "truncate qosflow.{0} cascade"]
)
def test_the_past_cannot_be_changed(postgres, raw, new_recommendation, table: str, change: str) -> None:
    record = new_recommendation(postgres)
    postgres.add_outcome(record.recommendation_id, {"measured_s": 1.0})
    postgres.add_report_card(record.model_id, {"concordance": 1.0})
    observation = Observation(record.recommendation_id, "split", 0, 1, "success")
    postgres.add_observations([observation])
    column = {
        "models": "summary = '{}'",
        "model_parts": "content = ''",
        "recommendations": "answer = '{}'",
        "outcomes": "outcome = '{}'",
        "report_cards": "report = '{}'",
        "observations": "try_number = 2",
    }[table]
    with raw.cursor() as cursor, pytest.raises(errors.RestrictViolation, match=r"never change: \w+ refused"):
        cursor.execute(change.format(table, column))
    raw.rollback()
    assert postgres.recommendation(record.recommendation_id) == record
    assert postgres.model_part(record.model_id, "regions") == b"{}"
    assert postgres.outcomes(record.recommendation_id)[0].outcome == {"measured_s": 1.0}
    assert postgres.report_cards(record.model_id)[0].report == {"concordance": 1.0}
    assert postgres.observations(record.recommendation_id) == (observation,)


def test_no_part_is_added_to_a_published_model(postgres, raw, new_model) -> None:
    model = new_model(postgres)
    with (
        raw.cursor() as cursor,
        pytest.raises(errors.RestrictViolation, match="was published without the part"),
    ):
        cursor.execute(
            "insert into qosflow.model_parts (model_id, kind, scale, content, content_type)"
            " values (%s, 'late', '', '', 'text/plain')",
            (model.model_id,),
        )
    raw.rollback()
    assert "late" not in [part.kind for part in postgres.model_parts(model.model_id)]


def test_a_workflow_with_models_cannot_be_removed(postgres, raw, new_model) -> None:
    new_model(postgres)
    with raw.cursor() as cursor, pytest.raises(errors.ForeignKeyViolation):
        cursor.execute("delete from qosflow.workflows")
    raw.rollback()


# Speed


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("models_of_workflow", {"workflow": "genome", "limit": 1}),
        ("models", {"limit": 50}),
        ("recommendations", {**NO_FILTER, "workflow": "genome", "limit": 50, "offset": 0}),
        ("recommendations", {**NO_FILTER, "dag_id": "d", "limit": 50, "offset": 0}),
        ("recommendations", {**NO_FILTER, "dag_id": "d", "run_id": "r", "limit": 50, "offset": 0}),
        ("recommendations", {**NO_FILTER, "limit": 50, "offset": 0}),
        ("outcomes", {"recommendation_id": "00000000-0000-0000-0000-000000000000", "limit": 50}),
        ("report_cards", {"model_id": "00000000-0000-0000-0000-000000000000", "limit": 50}),
    ],
)
def test_the_newest_rows_are_found_by_an_index(raw, query: str, parameters: dict) -> None:
    with raw, raw.cursor() as cursor:
        # The tables are empty here, so the planner is told not to take them for small.
        cursor.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        cursor.execute("explain " + queries()[query], parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan Backward" in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(
    ("of", "index"),
    [
        ({"workflow": "genome"}, "recommendations_workflow"),
        ({"dag_id": "nightly"}, "recommendations_dag"),
        ({"dag_id": "nightly", "run_id": "one"}, "recommendations_run"),
    ],
)
def test_runs_are_found_by_an_index_in_the_order_in_which_they_are_listed(
    raw, of: dict[str, str], index: str
) -> None:
    parameters = {**NO_FILTER, "limit": 50, "all": True, **of}
    with raw, raw.cursor() as cursor:
        cursor.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        cursor.execute("explain " + queries()["runs"], parameters)
        plan = [line.strip() for (line,) in cursor.fetchall()]
    assert any(f"Index Scan Backward using {index} on recommendations r" in line for line in plan), plan
    # Sorted is only what belongs to one of them: nothing is sorted before the first is found.
    assert plan[0].startswith("Limit")
    assert not plan[1].startswith("->  Sort"), plan


def test_what_a_task_told_is_found_among_the_tasks_of_its_run(raw) -> None:
    parameters = {"dag_id": "nightly", "run_id": "one", "task_id": "split.run", "limit": 50}
    with raw, raw.cursor() as cursor:
        cursor.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        cursor.execute("explain " + queries()["task_observations"], parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "recommendations_run" in plan
    assert "observations_pkey" in plan


def _wait_until_blocked(raw: extensions.connection) -> None:
    with closing(psycopg2.connect(raw.dsn, password="test")) as other:
        other.autocommit = True

        def blocked() -> bool:
            with other.cursor() as cursor:
                cursor.execute(
                    "select from pg_stat_activity where datname = current_database()"
                    " and application_name = 'qosflow' and wait_event_type = 'Lock'"
                )
                return cursor.rowcount > 0

        assert _eventually(blocked)


def _eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
