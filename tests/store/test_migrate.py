"""Migrations: each once, each whole, and together exactly what schema.sql says."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from qosflow_airflow.exceptions import StoreError, StoreUnavailableError
from qosflow_airflow.store.migrate import Migration, shipped_migrations, status, upgrade
from qosflow_airflow.store.postgres import PostgresStore
from qosflow_airflow.store.queries import sql_folder

FIRST = Migration(1, "0001_stages", "create table qosflow.stages (name text)")
SECOND = Migration(
    2, "0002_tiers", "create table qosflow.tiers (name text); insert into qosflow.tiers values ('ssd')"
)
BROKEN = Migration(3, "0003_broken", "create table qosflow.half (n int); select 1 / 0")

CATALOG = {
    "columns": "select * from information_schema.columns where table_schema = 'qosflow'",
    "storage": "select attrelid::regclass::text, attname, attstorage from pg_attribute"
    " join pg_class on pg_class.oid = attrelid where relnamespace = 'qosflow'::regnamespace",
    "constraints": "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
    " where connamespace = 'qosflow'::regnamespace",
    "indexes": "select indexdef from pg_indexes where schemaname = 'qosflow'",
    "triggers": "select pg_get_triggerdef(t.oid), tgenabled from pg_trigger t"
    " join pg_class c on c.oid = tgrelid where relnamespace = 'qosflow'::regnamespace and not tgisinternal",
    "functions": "select pg_get_functiondef(oid) from pg_proc where pronamespace = 'qosflow'::regnamespace",
    "relations": "select relname, relkind, relpersistence, reloptions, obj_description(oid, 'pg_class')"
    " from pg_class where relnamespace = 'qosflow'::regnamespace",
    "comments": "select c.relname, d.objsubid, d.description from pg_description d join pg_class c"
    " on c.oid = d.objoid where relnamespace = 'qosflow'::regnamespace",
    "types": "select typname, typtype from pg_type where typnamespace = 'qosflow'::regnamespace",
}


def execute(url: str, sql: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)


def catalog(url: str) -> dict[str, list[str]]:
    """Return all that Postgres knows of the schema, but the names of the database and of object numbers."""
    found = {}
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        for name, query in CATALOG.items():
            cursor.execute(query)
            database = connection.info.dbname
            found[name] = sorted(str(row).replace(database, "database") for row in cursor.fetchall())
    return found


def tables(url: str) -> list[str]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("select tablename from pg_tables where schemaname = 'qosflow' order by 1")
        return [name for (name,) in cursor.fetchall()]


@pytest.fixture
def other_database_url(request: pytest.FixtureRequest, postgres_url: str):
    """A second empty database."""
    name = f"schema_{threading.get_native_id()}"
    server = psycopg2.connect(postgres_url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute(f"create database {name}")
    yield postgres_url.removesuffix("postgres") + name
    with server.cursor() as cursor:
        cursor.execute(f"drop database {name} with (force)")
    server.close()


def test_migrations_and_schema_give_the_same_database(database_url: str, other_database_url: str) -> None:
    upgrade(database_url)
    execute(other_database_url, sql_folder().joinpath("schema.sql").read_text(encoding="utf-8"))
    migrated = catalog(database_url)
    assert migrated == catalog(other_database_url)
    assert all(migrated.values()), "a part of the catalog was not looked at"
    for change in (
        "alter table qosflow.models alter summary drop not null",
        "alter table qosflow.build_parts alter content set storage main",
        "drop index qosflow.outcomes_recommendation",
        "drop trigger refuse_truncate on qosflow.outcomes",
        "comment on table qosflow.builds is 'other'",
        "alter table qosflow.recommendations drop constraint recommendations_status_check",
    ):
        execute(other_database_url, change)
        changed = catalog(other_database_url)
        assert changed != migrated, change
        migrated = changed


def test_the_migrations_are_numbered_and_leave_transactions_to_us() -> None:
    migrations = shipped_migrations()
    assert [migration.number for migration in migrations] == list(range(1, len(migrations) + 1))
    for migration in migrations:
        words = migration.sql.lower().replace("\n", " ")
        assert "commit;" not in words
        assert "begin;" not in words
        assert migration.sha256 == hashlib.sha256(migration.sql.encode()).hexdigest()


def test_upgrading_again_changes_nothing(database_url: str) -> None:
    before = status(database_url)
    assert before.applied == ()
    assert [migration.number for migration in before.pending] == [m.number for m in shipped_migrations()]
    assert not before.is_current
    assert tables(database_url) == []

    assert upgrade(database_url) == tuple(migration.name for migration in shipped_migrations())
    assert upgrade(database_url) == ()

    after = status(database_url)
    assert after.is_current
    assert [applied.sha256 for applied in after.applied] == [m.sha256 for m in shipped_migrations()]
    assert after.applied[0].applied_at.utcoffset().total_seconds() == 0


def test_only_the_pending_ones_are_applied(database_url: str) -> None:
    assert upgrade(database_url, migrations=[FIRST]) == ("0001_stages",)
    assert status(database_url, migrations=[FIRST, SECOND]).pending == (SECOND,)
    assert upgrade(database_url, migrations=[FIRST, SECOND]) == ("0002_tiers",)
    assert tables(database_url) == ["migrations", "stages", "tiers"]


def test_a_failing_migration_leaves_the_one_before(database_url: str) -> None:
    with pytest.raises(StoreError, match="division by zero"):
        upgrade(database_url, migrations=[FIRST, SECOND, BROKEN])
    assert tables(database_url) == ["migrations", "stages", "tiers"]
    assert status(database_url, migrations=[FIRST, SECOND, BROKEN]).pending == (BROKEN,)
    cured = Migration(3, "0003_cured", "create table qosflow.half (n int)")
    assert upgrade(database_url, migrations=[FIRST, SECOND, cured]) == ("0003_cured",)


def test_upgrades_at_once_apply_each_migration_once(database_url: str) -> None:
    steps = [Migration(n, f"{n:04d}_t", f"create table qosflow.t{n} (n int)") for n in range(1, 11)]
    start = threading.Barrier(4)

    def race(_: int) -> tuple[str, ...]:
        start.wait(10)
        return upgrade(database_url, migrations=steps)

    with ThreadPoolExecutor(4) as threads:
        applied = [name for names in threads.map(race, range(4)) for name in names]
    assert sorted(applied) == [step.name for step in steps]
    assert status(database_url, migrations=steps).is_current


def test_a_lock_that_stays_taken_is_an_error(database_url: str) -> None:
    upgrade(database_url, migrations=[FIRST])
    with closing(psycopg2.connect(database_url)) as holder, holder.cursor() as cursor:
        cursor.execute("lock table qosflow.migrations")
        with pytest.raises(StoreError, match=r"lock timeout\. Stop what uses the database"):
            upgrade(database_url, migrations=[FIRST, SECOND], lock_timeout_s=0.2)
    assert upgrade(database_url, migrations=[FIRST, SECOND]) == ("0002_tiers",)


def test_a_changed_migration_is_noticed(database_url: str) -> None:
    upgrade(database_url, migrations=[FIRST])
    changed = Migration(1, "0001_stages", FIRST.sql + " -- and a comment")
    for call in (status, upgrade):
        with pytest.raises(StoreError, match=r"another migration 0001 .*Install the version that made it"):
            call(database_url, migrations=[changed])
    with PostgresStore(database_url) as store, pytest.raises(StoreError, match="another migration 0001"):
        store.ping()


def test_a_database_that_is_not_migrated_is_refused(database_url: str) -> None:
    with PostgresStore(database_url) as store:
        with pytest.raises(StoreError, match=r"is not migrated yet\. Run `qosflow db upgrade`") as caught:
            store.list_workflows()
        assert not isinstance(caught.value, StoreUnavailableError)
        upgrade(database_url)
        assert store.list_workflows() == ()


def test_a_database_that_lacks_a_migration_is_refused(database_url: str) -> None:
    upgrade(database_url, migrations=[])
    with PostgresStore(database_url) as store, pytest.raises(StoreError, match=r"Run `qosflow db upgrade`"):
        store.ping()


def test_a_database_newer_than_the_code_is_refused(database_url: str) -> None:
    future = Migration(len(shipped_migrations()) + 1, "9999_future", "select 1")
    upgrade(database_url, migrations=[*shipped_migrations(), future])
    assert [newer.name for newer in status(database_url).newer] == ["9999_future"]
    with pytest.raises(StoreError, match=r"newer than this code: it has 9999_future\. Install"):
        upgrade(database_url)
    with PostgresStore(database_url) as store, pytest.raises(StoreError, match="newer than this code"):
        store.ping()


def test_a_schema_made_by_an_administrator_is_used(database_url: str) -> None:
    """An account that may not create schemas gets one to work in."""
    role = f"owner_{threading.get_native_id()}"
    execute(
        database_url, f"create role {role} login password 'owner'; create schema qosflow authorization {role}"
    )
    owner = database_url.replace("//qosflow:test@", f"//{role}:owner@")
    assert owner != database_url
    try:
        assert upgrade(owner)
        with PostgresStore(owner) as store:
            store.register_workflow("genome", "/bundles")
    finally:
        execute(database_url, f"drop owned by {role} cascade; drop role {role}")


def test_what_else_is_in_the_database_stays(database_url: str) -> None:
    execute(database_url, "create table models (n int); insert into models values (1)")
    upgrade(database_url)
    with PostgresStore(database_url) as store:
        assert store.models() == ()
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("select n from public.models")
        assert cursor.fetchall() == [(1,)]
