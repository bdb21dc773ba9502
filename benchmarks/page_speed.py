"""How long the web server takes for the pages, in front of a large model and many recommendations.

    python -m benchmarks.page_speed [--stages 10] [--recommendations 10000] [--repeats 40] [--cpu]

A Postgres holds a model of 3^stages x 2 configurations with its regions, 19 small workflows, and
recommendations of all of them, half of which had runs that are kept task by task. The application is asked
over its own routes by a user who has logged in, so that what is measured is the server's side: rights, the
database, the model, and the page. *First* is a view by a process that knows no model yet, as after a restart.
Statements are those that a view sends to the database.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.recommend_latency import synthetic_model
from benchmarks.report import write_report
from qosflow_airflow.answers import answer_request
from qosflow_airflow.core.configurations import evaluate_space
from qosflow_airflow.core.model import Model
from qosflow_airflow.core.policies import policy_qualities
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.region_fit import fit_regions
from qosflow_airflow.store.base import ModelVersion, Store

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

ROOT = Path(__file__).resolve().parents[1]
SCALES = 2
OTHERS = 19
VIEW_GOAL_MS = 1000.0
ASK_GOAL_MS = 300.0

# Each run had four tasks a stage; half of the recommendations had a run.
MULTIPLY = """
insert into qosflow.recommendations
select md5(r.recommendation_id::text || i)::uuid, r.model_id, r.workflow, r.request, r.answer, r.status,
    'dag' || i %% 50, 'run' || i, 'recommend', 1, r.created_at + i * interval '1 second'
from qosflow.recommendations r, generate_series(1, %(times)s) i;
insert into qosflow.outcomes (recommendation_id, outcome)
select recommendation_id, jsonb_build_object('met_deadline', true, 'predicted_s', answer->'makespan_s',
    'measured_s', 1.2 * (answer->>'makespan_s')::float)
from qosflow.recommendations where status = 'feasible' and md5(recommendation_id::text) < '8';
insert into qosflow.observations (recommendation_id, stage, map_index, try_number, source, state, tasks,
    count, start_s, end_s, work_start_s, work_end_s, queue_s, read_bytes, write_bytes, tier, host, dag_id,
    run_id, task_id)
select r.recommendation_id, tiers.key, k, 1, 'task', 'success', 1, 4, 100, 110 + k, 101, 109 + k, 1, 1e6, 1e6,
    tiers.value, 'host', r.dag_id, r.run_id, tiers.key || '.run'
from qosflow.recommendations r join qosflow.outcomes using (recommendation_id),
    jsonb_each_text(r.answer->'configuration'->'tiers') tiers, generate_series(0, 3) k;
analyze;
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stages", type=int, default=10, help="stages of the large model")
    parser.add_argument("--recommendations", type=int, default=10_000, help="recommendations that are kept")
    parser.add_argument("--repeats", type=int, default=40, help="views of each page")
    parser.add_argument("--cpu", action="store_true", help="this process's time, where the machine is busy")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/)")
    options = parser.parse_args()
    clock = process_time if options.cpu else perf_counter
    with database() as url, airflow_users() as connect:
        asked = fill(url, options.stages, options.recommendations)
        pages = Pages(url, connect)
        print(f"{'ms':<28}{'first':>8}{'p50':>8}{'p95':>8}{'goal':>8}{'statements':>12}{'KiB':>8}")
        rows = [pages.measure(view, options.repeats, clock) for view in asked]
    missed = [row["view"] for row in rows if max(row["first_ms"], row["p95_ms"]) > row["goal_ms"]]
    print("All goals are met." if not missed else f"Missed: {', '.join(missed)}")
    write_report({"claim": "pages are quick", "rows": rows, "cpu": options.cpu}, options.json, "page_speed")


class Pages:
    """The application in front of a database, asked by a user who has logged in."""

    def __init__(self, url: str, connect: Callable[[Callable[[], Store]], TestClient]) -> None:
        from qosflow_airflow.store.postgres import PostgresStore

        self._fresh = lambda: connect(lambda: PostgresStore(url))
        self._known = self._fresh()
        self._statements = count_statements()

    def measure(self, view: View, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
        """Return what a view took, in ms: at first, and percentiles of later ones."""

        def spent_ms(client: TestClient, at: int) -> float:
            started = clock()
            self._answer = view.ask(client, at)
            spent_s = clock() - started
            if self._answer.status_code != 200:
                raise SystemExit(f"{view.name}: {self._answer.status_code} {self._answer.text[:300]}")
            return 1e3 * spent_s

        first_ms = [spent_ms(self._fresh(), at) for at in range(3)]
        spent_ms(self._known, 0)
        later_ms = [spent_ms(self._known, at) for at in range(repeats)]
        self._statements.clear()
        spent_ms(self._known, 0)
        p50_ms, p95_ms = np.percentile(later_ms, (50, 95)).tolist()
        row = {
            "view": view.name,
            "first_ms": float(np.median(first_ms)),
            "p50_ms": p50_ms,
            "p95_ms": p95_ms,
            "goal_ms": view.goal_ms,
            "statements": len(self._statements),
            "bytes": len(self._answer.content),
        }
        figures = "".join(f"{row[name]:>8.0f}" for name in ("first_ms", "p50_ms", "p95_ms", "goal_ms"))
        print(f"{view.name:<28}{figures}{row['statements']:>12}{row['bytes'] / 1024:>8.0f}", flush=True)
        return row


def count_statements() -> list[str]:
    """Return a list to which every statement that a store sends from now on is added."""
    from psycopg2.extras import RealDictCursor

    sent: list[str] = []
    execute = RealDictCursor.execute

    def counting(cursor: RealDictCursor, statement: Any, values: Any = None) -> Any:
        sent.append(str(statement))
        return execute(cursor, statement, values)

    RealDictCursor.execute = counting  # type: ignore[method-assign]
    return sent


@dataclass(frozen=True)
class View:
    """A page or a question: how it is asked for the n-th time, and how long it may take."""

    name: str
    goal_ms: float
    ask: Callable[[TestClient, int], Any]


def views(version: ModelVersion, recommendation_id: str, makespan_s: float) -> list[View]:
    """Return what is asked; questions differ each time, as while one types."""
    model = f"models/{version.model_id}"

    def page(name: str, path: str) -> View:
        return View(name, VIEW_GOAL_MS, lambda client, _: client.get(path))

    def question(name: str, share: float) -> View:
        def ask(client: TestClient, at: int) -> Any:
            return client.get(f"/{model}/answer?deadline_s={makespan_s * share * (1 + at / 1000)}")

        return View(name, ASK_GOAL_MS, ask)

    def asked(client: TestClient, at: int) -> Any:
        return client.post(f"/api/v1/{model}/ask", json={"deadline_s": makespan_s * (2 + at / 1000)})

    return [
        page("workflows", "/"),
        page("model", f"/{model}"),
        page("recommendation", f"/recommendations/{recommendation_id}"),
        page("tab of a Dag", "/dag?dag_id=dag7"),
        page("tab of a run", "/run?dag_id=dag7&run_id=run7"),
        page("tab of a task instance", "/task-instance?dag_id=dag7&run_id=run7&task_id=stage0.run"),
        question("what if, feasible", 2.0),
        question("what if, infeasible", 0.5),
        View("what if, JSON", ASK_GOAL_MS, asked),
        page("workflows, JSON", "/api/v1/workflows"),
        page("recommendations, JSON", "/api/v1/recommendations"),
        page("the last of them, JSON", "/api/v1/recommendations?offset=9900"),
    ]


def fill(url: str, stages: int, recommendations: int) -> list[View]:
    """Publish the models, keep the recommendations and what their runs told, and return what to ask."""
    from qosflow_airflow.store.migrate import upgrade
    from qosflow_airflow.store.postgres import PostgresStore

    upgrade(url)
    with PostgresStore(url, statement_timeout_s=600) as store:
        model = with_regions(synthetic_model(stages, SCALES))
        version = publish(store, model)
        print(f"{model.space.size * SCALES:,} configurations, {recommendations:,} recommendations")
        best_s = answer_request(store, version.workflow, QoSRequest())[0].answer["makespan_s"]
        small = synthetic_model(4, SCALES)
        for at in range(OTHERS):
            other = replace(small, workflow=replace(small.workflow, name=f"other {at}"))
            answer_request(store, publish(store, other).workflow, QoSRequest(), dag_id=f"other{at}")
        for at in range(OTHERS):
            asked = QoSRequest(deadline_s=best_s * (0.9 + 0.05 * at))
            record = answer_request(store, version.workflow, asked, dag_id="large", run_id=f"run{at}")[0]
        multiply(url, recommendations // (2 * OTHERS))
    return views(version, record.recommendation_id, best_s)


def with_regions(model: Model) -> Model:
    """Return a model with the regions that a build fits, and the qualities that it keeps."""
    scales = []
    for scale in model.scales:
        makespans = model.makespans(scale.nodes)
        found = evaluate_space(makespans)
        qualities = policy_qualities(makespans, found.layouts, found.makespan_s)
        quality = {"policies": {name: one._asdict() for name, one in qualities.items()}}
        regions = fit_regions(makespans, found.layouts, found)
        scales.append(replace(scale, regions=regions, quality=quality))
    return replace(model, scales=tuple(scales))


def publish(store: Store, model: Model) -> ModelVersion:
    """Publish a model as a build does."""
    store.register_workflow(model.workflow.name, "/bundle")
    build_id = store.create_build(model.workflow.name, {}, {})
    store.put_part(build_id, "model", None, json.dumps(model.to_json()).encode())
    store.put_part(build_id, "regions", None, json.dumps(model.regions_to_json()).encode())
    summary = {"rules": model.rules.name, "scales": list(model.nodes)}
    return store.publish(build_id, summary, [("model", None), ("regions", None)], qosflow_version="benchmark")


def multiply(url: str, times: int) -> None:
    """Make many recommendations of the few there are, and runs of half of them."""
    import psycopg2

    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(MULTIPLY, {"times": times})
        cursor.execute("select count(*) from qosflow.observations")
    connection.close()


@contextmanager
def database() -> Iterator[str]:
    """Start a Postgres of this benchmark's own and return the URL of a database."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from embedded_postgres import prepare_postgres
    from state import free_port

    # Not a private folder: root's server runs under another account.
    folder = Path(tempfile.mkdtemp(prefix="qosflow-benchmark-"))
    server = prepare_postgres(folder / "postgres", os.environ)
    try:
        yield server.start(free_port(), "benchmark") + "/postgres"
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def airflow_users() -> Iterator[Callable[[Callable[[], Store]], TestClient]]:
    """Give the application an Airflow to ask for rights, and return what opens it for a user."""
    home = Path(tempfile.mkdtemp(prefix="qosflow-benchmark-"))
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        del os.environ[name]
    os.environ["AIRFLOW_HOME"] = str(home)
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home / 'airflow.db'}"
    os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "s" * 64
    os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = "viewer:viewer"
    try:
        with redirect_stdout(StringIO()):  # Airflow's database says what it does
            connect = _connect()
        yield connect
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _connect() -> Callable[[Callable[[], Store]], TestClient]:
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.utils.db import initdb
    from fastapi.testclient import TestClient

    from qosflow_airflow.web.app import create_app

    initdb()
    token = init_auth_manager().generate_jwt(SimpleAuthManagerUser(username="viewer", role="viewer"))
    headers = {"Authorization": f"Bearer {token}"}
    return lambda store: TestClient(create_app(store), headers=headers)


if __name__ == "__main__":
    main()
