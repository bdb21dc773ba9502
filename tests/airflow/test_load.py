"""How busy a host is: by a Prometheus that answers over HTTP, or by the kernel; never in a task's way."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from qosflow_airflow.exceptions import QoSFlowError
from qosflow_airflow.hooks import load as loads
from qosflow_airflow.hooks import settings
from qosflow_airflow.hooks.load import host_load, measured_load
from qosflow_airflow.store.load import Load

pytestmark = pytest.mark.airflow


class Prometheus(ThreadingHTTPServer):
    """Answers with ``body`` once it is ``released``, and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body: Any = None
        self.asked: list[str] = []
        self.released = threading.Event()
        self.released.set()


class Answer(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        self.server.asked += parse_qs(urlsplit(self.path).query)["query"]
        self.server.released.wait(60)
        body = self.server.body
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(500 if body is None else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def prometheus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Prometheus]:
    server = Prometheus()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AIRFLOW__QOSFLOW__PROMETHEUS_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("AIRFLOW__QOSFLOW__PROMETHEUS_QUERY", 'busy{node="$host"}')
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def vector(*values: str) -> dict[str, Any]:
    return {
        "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, one]} for one in values]}
    }


def test_prometheus_is_asked_for_the_host_of_the_task(
    prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loads, "LIMIT_S", 60.0)  # this machine may be busy
    prometheus.body = vector("0.625")
    assert measured_load('no"de', is_here=False) == Load(0.625, "prometheus")
    assert prometheus.asked == ['busy{node="no\\"de"}']
    prometheus.body = {"data": {"resultType": "scalar", "result": [1.5, "2"]}}
    assert measured_load("node", is_here=True) == Load(2.0, "prometheus")


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        b"no json",
        vector(),
        vector("1", "2"),
        vector("NaN"),
        vector("-1"),
        vector("much"),
        b"[" * 99999,
    ],
    ids=[
        "an error",
        "nothing",
        "no JSON",
        "no sample",
        "two",
        "not a number",
        "below 0",
        "a word",
        "too deep",
    ],
)
def test_what_prometheus_does_not_tell_is_not_known(
    prometheus: Prometheus, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loads, "LIMIT_S", 60.0)
    prometheus.body = body
    # Nor does the host's own load take its place: it is of another unit.
    assert measured_load("node", is_here=True) is None
    assert len(prometheus.asked) == 1


def test_a_prometheus_that_hangs_holds_a_task_up_for_a_moment_only(prometheus: Prometheus) -> None:
    prometheus.released.clear()
    began = time.monotonic()
    assert measured_load("node", is_here=True) is None
    assert time.monotonic() - began < 30


def test_without_prometheus_the_host_tells_its_own_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 2.0, 3.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert [host_load(seconds) for seconds in (0.0, 50.0, 250.0, 5000.0)] == [0.25, 0.25, 0.5, 0.75]
    assert measured_load("here", 400.0, is_here=True) == Load(0.5, "host")
    assert measured_load("a pod's node", is_here=False) is None


def test_a_kernel_that_tells_no_load_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> None:
        raise OSError("no load average here")

    monkeypatch.setattr(os, "getloadavg", unknown)
    assert measured_load("here", is_here=True) is None


@pytest.mark.parametrize(
    ("url", "query"), [("file:///etc/passwd", "up"), ("prometheus:9090", "up"), ("http://p", "")]
)
def test_options_that_cannot_be_are_named_and_hold_no_task_up(
    url: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__QOSFLOW__PROMETHEUS_URL", url)
    monkeypatch.setenv("AIRFLOW__QOSFLOW__PROMETHEUS_QUERY", query)
    with pytest.raises(QoSFlowError, match="prometheus_"):
        settings.prometheus()
    assert measured_load("here", is_here=True) is None
