from __future__ import annotations

import json
import os

import pytest
from airflow.sdk import Connection

from qosflow_airflow.exceptions import QoSFlowError, StoreError
from qosflow_airflow.hooks import settings
from qosflow_airflow.hooks.libpq import connection_parameters, libpq_text
from qosflow_airflow.hooks.qosflow import QoSFlowHook
from qosflow_airflow.store.migrate import upgrade

pytestmark = pytest.mark.airflow


@pytest.fixture
def connection(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", database_url)
    return database_url


def test_the_default_connection_leads_to_a_store(connection: str) -> None:
    upgrade(connection)
    with QoSFlowHook().get_store() as store:
        store.register_workflow("genome", "/bundle")
        assert store.workflow("genome").bundle_path == "/bundle"
    assert QoSFlowHook().test_connection() == (True, "The QoSFlow database can be used.")


def test_a_connection_that_does_not_work_says_why(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    works, why = QoSFlowHook().test_connection()
    assert not works
    assert "qosflow db upgrade" in why
    monkeypatch.setenv("AIRFLOW_CONN_QOSFLOW_DEFAULT", "postgresql://user:secret@127.0.0.1:1/qosflow")
    works, why = QoSFlowHook().test_connection()
    assert not works
    assert "127.0.0.1:1" in why
    assert "secret" not in why


def test_the_statement_timeout_comes_from_the_configuration(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__QOSFLOW__STATEMENT_TIMEOUT_S", "0.0001")
    monkeypatch.setattr("qosflow_airflow.store.postgres.PostgresStore", lambda _, **kwargs: kwargs)
    assert QoSFlowHook().get_store() == {"statement_timeout_s": 0.0001}
    for wrong in ("0", "-1", "soon", "nan", "inf"):
        monkeypatch.setenv("AIRFLOW__QOSFLOW__STATEMENT_TIMEOUT_S", wrong)
        with pytest.raises(QoSFlowError, match="statement_timeout_s"):
            QoSFlowHook().get_store()


def test_the_connection_id_comes_from_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert QoSFlowHook().qosflow_conn_id == "qosflow_default"
    monkeypatch.setenv("AIRFLOW__QOSFLOW__CONN_ID", "other")
    assert QoSFlowHook().qosflow_conn_id == "other"
    assert QoSFlowHook("third").qosflow_conn_id == "third"


def test_a_missing_connection_says_how_to_add_it() -> None:
    with pytest.raises(StoreError, match=r"no connection 'nowhere'.*AIRFLOW_CONN_NOWHERE="):
        QoSFlowHook("nowhere").get_store()


@pytest.mark.parametrize("conn_type", ["postgres", "qosflow", "postgresql+psycopg2"])
def test_every_part_of_a_connection_is_passed_on(conn_type: str) -> None:
    extra = {"sslmode": "require", "connect_timeout": 3, "cursor": "dictcursor", "iam": False}
    connection = Connection(
        conn_id="c",
        conn_type=conn_type,
        host="db",
        port=5433,
        schema="qos",
        login="me",
        password="it's a \\",
        extra=json.dumps(extra),
    )
    assert libpq_text(connection_parameters(connection)) == (
        r"host='db' port='5433' dbname='qos' user='me' password='it\'s a \\' "
        "sslmode='require' connect_timeout='3'"
    )


def test_libpq_reads_what_was_written() -> None:
    from psycopg2.extensions import parse_dsn

    odd = {"host": "/tmp/a b", "user": "o'brien", "password": "\\'= '", "dbname": "ü"}
    assert parse_dsn(libpq_text(odd)) == odd


def test_a_mistyped_extra_is_refused_without_its_value() -> None:
    connection = Connection(conn_id="c", conn_type="postgres", host="db", extra='{"sslmod": "secret"}')
    with pytest.raises(StoreError, match="sslmod") as refusal:
        connection_parameters(connection)
    assert "secret" not in str(refusal.value)


def test_another_kind_of_connection_is_refused() -> None:
    with pytest.raises(StoreError, match="'mysql'"):
        connection_parameters(Connection(conn_id="c", conn_type="mysql", host="db"))


def test_options_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests of the same process may have a configuration of their own.
    monkeypatch.delenv("AIRFLOW__QOSFLOW__BUNDLE_ROOTS", raising=False)
    assert settings.bundle_roots() == ()
    assert settings.registered_bundles() == {}
    assert settings.page_path() == "/qosflow"
    monkeypatch.setenv("AIRFLOW__QOSFLOW__BUNDLE_ROOTS", os.pathsep.join(["/a", "", "/b"]))
    assert settings.bundle_roots() == ("/a", "/b")
    monkeypatch.setenv("AIRFLOW__QOSFLOW__WORKFLOWS", '{"genome": "/a/genome"}')
    assert settings.registered_bundles() == {"genome": "/a/genome"}
    assert all(settings.layers())
    monkeypatch.setenv("AIRFLOW__QOSFLOW__LAYERS", "cases, intervals")
    assert [name for name, on in settings.layers()._asdict().items() if on] == ["cases", "intervals"]
    monkeypatch.setenv("AIRFLOW__QOSFLOW__LAYERS", "magic")
    with pytest.raises(QoSFlowError, match=r"\[qosflow\] layers .*magic.*Name some of calibration"):
        settings.layers()
    for wrong in ("[]", "{", '{"genome": 1}'):
        monkeypatch.setenv("AIRFLOW__QOSFLOW__WORKFLOWS", wrong)
        with pytest.raises(QoSFlowError, match="workflows"):
            settings.registered_bundles()
