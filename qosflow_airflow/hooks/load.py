"""How busy the place was where a task ran: by a Prometheus server where one is configured, else by its host.

A worker has no database of Airflow, and Airflow tells a task nothing of how many slots of a pool are taken.
What a worker can see is its host: the running and waiting processes per processor, averaged by the kernel
over 1, 5 or 15 minutes, the one that fits the task's time best. A task in a pod runs elsewhere; of it only
Prometheus tells.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from string import Template
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from qosflow_airflow.hooks import settings
from qosflow_airflow.store.load import Load

HOST, PROMETHEUS = "host", "prometheus"
LIMIT_S = 1.0
"""So long a task waits for Prometheus at most."""
MAX_ANSWER_BYTES = 1 << 16
AVERAGED_S = (60.0, 300.0, 900.0)
"""Over what the kernel's load averages go."""

log = logging.getLogger(__name__)


def measured_load(host: str, took_s: float = AVERAGED_S[0], *, is_here: bool) -> Load | None:
    """Return the load of ``host`` while a task ran there for so long, ``None`` where nobody tells.

    ``is_here`` says whether the task ran on this machine. Never raises, and takes :data:`LIMIT_S` at most.
    """
    try:
        asked = settings.prometheus()
        if asked is not None:
            value = _within_limit(*asked, host)
            return None if value is None else Load(value, PROMETHEUS)
        return Load(host_load(took_s), HOST) if is_here else None
    except Exception:  # a task must not fail, nor its observation be lost, because of this
        log.info("QoSFlow: the load of %s is not known.", host, exc_info=True)
        return None


def host_load(took_s: float) -> float:
    """Return the load average of this machine per processor, of the time that is nearest to ``took_s``."""
    near = [abs(math.log(max(took_s, 1.0) / seconds)) for seconds in AVERAGED_S]
    return os.getloadavg()[near.index(min(near))] / (os.cpu_count() or 1)


def _within_limit(url: str, query: str, host: str) -> float | None:
    """Return what Prometheus says in time; a name server may hang for minutes."""
    found: list[float | None] = []

    def ask() -> None:
        try:
            found.append(_ask(url, query, host))
        except Exception:  # nobody is above this thread to take it
            log.info("QoSFlow: Prometheus tells no load of %s.", host, exc_info=True)

    thread = threading.Thread(target=ask, name="qosflow-load", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    return found[0] if found else None


def _ask(url: str, query: str, host: str) -> float | None:
    """Return the value of an instant query, ``None`` where it is no single number from 0 on."""
    name = host.replace("\\", "\\\\").replace('"', '\\"')
    asked = urlencode({"query": Template(query).safe_substitute(host=name)})
    request = Request(f"{url.rstrip('/')}/api/v1/query?{asked}")  # noqa: S310  # settings allow http(s) alone
    with urlopen(request, timeout=LIMIT_S) as answer:  # noqa: S310
        data = json.loads(answer.read(MAX_ANSWER_BYTES))["data"]
    results = data["result"]
    sample = results if data["resultType"] == "scalar" else results[0]["value"] if len(results) == 1 else None
    value = math.nan if sample is None else float(sample[1])
    return value if math.isfinite(value) and value >= 0 else None
