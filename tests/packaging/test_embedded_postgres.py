from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from console import SetupError
from embedded_postgres import Account, EmbeddedPostgres, find_account, first_private_folder, prepare_postgres
from state import free_port, port_is_free

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """An empty folder that every account can enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="qosflow-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(public_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = prepare_postgres(public_folder / "postgres", {})
    yield server
    server.stop()


def ask(url: str, sql: str) -> object:
    connection = psycopg2.connect(url + "/postgres")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def test_data_and_password_survive_a_stop_and_the_port_may_change(server: EmbeddedPostgres) -> None:
    url = server.start(free_port(), "first password")
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert server.is_running()
    assert server.stop()
    assert not server.is_running()
    assert not server.stop(), "a second stop finds nothing to stop"

    port = free_port()
    assert ask(server.start(port, "first password"), "SELECT answer FROM kept") == 42
    assert server.running_port() == port
    assert not port_is_free(port)


def test_start_leaves_a_running_server_alone(server: EmbeddedPostgres) -> None:
    url = server.start(free_port(), "secret")
    started = ask(url, "SELECT pg_postmaster_start_time()::text")
    assert server.start(free_port(), "secret") == url
    assert ask(url, "SELECT pg_postmaster_start_time()::text") == started


def test_the_server_wants_its_password_and_listens_on_loopback_only(server: EmbeddedPostgres) -> None:
    url = server.start(free_port(), "secret")
    assert ask(url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(url, "SHOW unix_socket_directories") == ""
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        ask(url.replace("secret", "guess"), "SELECT 1")


def test_a_port_in_use_is_an_error_that_shows_the_servers_log(server: EmbeddedPostgres) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SetupError, match="Address already in use") as failure:
            server.start(other.getsockname()[1], "secret")
    assert "QOSFLOW_POSTGRES_URL" in failure.value.cure


@as_root
def test_a_private_parent_is_named_and_left_private(public_folder: Path) -> None:
    private = public_folder / "private"
    private.mkdir(mode=0o700)
    home = private / "state"
    home.mkdir()
    with pytest.raises(SetupError) as failure:
        prepare_postgres(home / "postgres", {})
    assert str(private) in str(failure.value)
    assert "QOSFLOW_HOME=" in failure.value.cure
    assert private.stat().st_mode & 0o777 == 0o700


@as_root
def test_binaries_in_a_private_environment_are_copied_for_the_server(
    public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import embedded_postgres

    package, release = embedded_postgres._packaged_server()
    hidden = public_folder / "hidden"
    hidden.mkdir(mode=0o700)
    for source in (package, package.with_name(package.name + ".libs")):
        shutil.copytree(source, hidden / source.name, symlinks=True)
    monkeypatch.setattr(embedded_postgres, "_packaged_server", lambda: (hidden / package.name, release))

    home = public_folder / "state"
    home.mkdir()
    server = prepare_postgres(home / "postgres", {})
    assert server.binaries.is_relative_to(home)
    try:
        assert ask(server.start(free_port(), "secret"), "SELECT 1") == 1
    finally:
        server.stop()


def test_the_account_can_be_chosen_but_neither_root_nor_unknown() -> None:
    nobody = find_account({"QOSFLOW_POSTGRES_ACCOUNT": "nobody"})
    assert nobody.uid not in (0, os.getuid())
    with pytest.raises(SetupError, match="refuses to run as root"):
        find_account({"QOSFLOW_POSTGRES_ACCOUNT": "root"})
    with pytest.raises(SetupError, match="no-such-account"):
        find_account({"QOSFLOW_POSTGRES_ACCOUNT": "no-such-account"})


def test_without_useradd_the_cure_names_another_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import embedded_postgres

    def no_entry(name: str) -> object:
        raise KeyError(name)

    monkeypatch.setattr("embedded_postgres.pwd.getpwnam", no_entry)
    monkeypatch.setattr(embedded_postgres, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(SetupError, match="no useradd") as failure:
        find_account({})
    assert "QOSFLOW_POSTGRES_ACCOUNT=nobody" in failure.value.cure


def test_the_outermost_private_folder_is_found_by_owner_group_and_others(public_folder: Path) -> None:
    inner = public_folder / "a" / "b"
    inner.mkdir(parents=True)
    uid, gid = inner.stat().st_uid, inner.stat().st_gid
    inner.parent.chmod(0o710)
    assert first_private_folder(inner, Account("owner", uid, gid)) is None
    assert first_private_folder(inner, Account("member", uid + 4321, gid)) is None
    assert first_private_folder(inner, Account("other", uid + 4321, gid + 4321)) == inner.parent
