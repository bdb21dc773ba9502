"""Airflow's REST API as the demo needs it: log in, run a Dag and follow it, read what a task returned."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from console import SetupError, say

FINISHED = {"success", "failed"}
BEFORE_RUNNING = {"waiting", "scheduled", "queued"}
POLL_S = 1.0

# No proxy ever stands between us and 127.0.0.1, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class AirflowApi:
    """A logged-in user of one Airflow."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._token = ""
        answer = self._call("POST", "/auth/token", {"username": user, "password": password})
        self._token = answer["access_token"]

    def wait_for_dag(self, dag_id: str, limit_s: float) -> None:
        """Wait until Airflow has read the Dag's file; an import error of any file ends the wait."""
        end = time.monotonic() + limit_s
        while True:
            answer = self._call("GET", f"/api/v2/dags?{urlencode({'dag_id_pattern': dag_id})}")
            if any(dag["dag_id"] == dag_id for dag in answer["dags"]):
                return
            errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
            if errors:
                raise SetupError(
                    f"Airflow cannot import {errors[0]['filename']}:\n{errors[0]['stack_trace'].strip()}",
                    "Cure what the last line names; Airflow reads the file again within seconds.",
                )
            if time.monotonic() > end:
                raise SetupError(
                    f"Airflow has not found the Dag {dag_id!r} in {limit_s:.0f} s.",
                    "Look into the log of the dag-processor, and check that dags/ of the clone is complete.",
                )
            time.sleep(POLL_S)

    def run_dag(self, dag_id: str, conf: Mapping[str, Any], limit_s: float) -> str:
        """Trigger the Dag, show its tasks as they change state, and return the id of the successful run."""
        self.wait_for_dag(dag_id, limit_s=120)
        path = f"/api/v2/dags/{quote(dag_id)}"
        self._call("PATCH", path, {"is_paused": False})
        run = self._call("POST", f"{path}/dagRuns", {"logical_date": None, "conf": dict(conf)})
        run_path = f"{path}/dagRuns/{quote(run['dag_run_id'])}"
        started = time.monotonic()
        shown: dict[str, str] = {}
        while True:
            state = self._call("GET", run_path)["state"]
            tasks = self._call("GET", f"{run_path}/taskInstances?limit=1000")["task_instances"]
            elapsed_s = time.monotonic() - started
            shown = _show_changes(tasks, shown, elapsed_s)
            if state in FINISHED:
                break
            if elapsed_s > limit_s:
                raise SetupError(
                    f"The run of {dag_id} is still {state} after {limit_s:.0f} s.",
                    f"See what it waits for: {self.url}/dags/{dag_id}/runs/{quote(run['dag_run_id'])}",
                )
            time.sleep(POLL_S)
        if state == "failed":
            raise SetupError(
                f"The run of {dag_id} has failed.\n{self._first_failure(run_path, tasks)}",
                f"The whole log: {self.url}/dags/{dag_id}/runs/{quote(run['dag_run_id'])}",
            )
        return str(run["dag_run_id"])

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what an unmapped task of a run has returned."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances/{quote(task_id)}"
        value = self._call("GET", f"{path}/xcomEntries/return_value")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def finished_run(self, dag_id: str, run_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return a run and its tasks, as Airflow describes them."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"
        return self._call("GET", path), self._call("GET", f"{path}/taskInstances?limit=1000")[
            "task_instances"
        ]

    def _first_failure(self, run_path: str, tasks: list[dict[str, Any]]) -> str:
        failed = next((task for task in tasks if task["state"] == "failed"), None)
        if failed is None:
            return "No task has failed; the scheduler's log says more."
        path = f"{run_path}/taskInstances/{quote(failed['task_id'])}/logs/{failed['try_number']}"
        answer = self._call("GET", f"{path}?{urlencode({'map_index': failed['map_index']})}")
        lines = [line for line in answer["content"] if isinstance(line, dict)]
        errors = [line for line in lines if line.get("level") in ("error", "critical")]
        return "\n".join([f"{failed['task_id']}:", *map(_describe_error, errors[-5:])])

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our own http
        try:
            with _DIRECT.open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise SetupError(
                f"Airflow refused {method} {path}: {error.code} {error.read(500).decode(errors='replace')}",
                "If another Airflow answers on that port, run: ./setup.sh down && ./setup.sh demo",
            ) from error
        except OSError as error:
            raise SetupError(
                f"Airflow does not answer at {self.url}: {error}.", "See what runs: ./setup.sh status"
            ) from error


def _show_changes(tasks: list[dict[str, Any]], shown: Mapping[str, str], elapsed_s: float) -> dict[str, str]:
    """Print every task whose state is another than the one shown, mapped instances as one line."""
    states: dict[str, Counter[str]] = {}
    for task in tasks:
        states.setdefault(task["task_id"], Counter())[task["state"] or "waiting"] += 1
    now = {task_id: _summarise(counts) for task_id, counts in states.items()}
    width = max(map(len, now), default=0)
    for task_id, summary in now.items():
        if summary and summary != shown.get(task_id, ""):
            say(f"  {elapsed_s:4.0f} s  {task_id:<{width}}  {summary}")
    return now


def _summarise(counts: Counter[str]) -> str:
    """Return how many instances are in which state; the steps before running are of no interest."""
    total = counts.total()
    seen = {state: count for state, count in sorted(counts.items()) if state not in BEFORE_RUNNING}
    return ", ".join(state if total == 1 else f"{count} of {total} {state}" for state, count in seen.items())


def _describe_error(line: Mapping[str, Any]) -> str:
    """Return what a log line says and which exception it holds, without its frames."""
    causes = [f"{cause['exc_type']}: {cause['exc_value']}" for cause in line.get("error_detail") or []]
    return "\n".join([str(line.get("event")), *causes])
