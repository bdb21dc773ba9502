"""The options of section ``[qosflow]`` in Airflow's configuration, with the provider metadata's defaults."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from airflow.configuration import conf

from qosflow_airflow.exceptions import QoSFlowError
from qosflow_airflow.get_provider_info import get_provider_info

SECTION = "qosflow"


def connection_id() -> str:
    """Return the connection that is used where none is named."""
    return _option("conn_id")


def statement_timeout_s() -> float:
    """Return the seconds after which the database gives up on one statement.

    Raises
    ------
    QoSFlowError
        When the option is not a number greater than 0.
    """
    text = _option("statement_timeout_s")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    # Written so that NaN is refused too.
    if not 0 < seconds < float("inf"):
        raise _wrong("statement_timeout_s", text, "Give seconds greater than 0.")
    return seconds


def bundle_roots() -> tuple[str, ...]:
    """Return the folders below which bundles may be read; without any, no bundle can be read."""
    return tuple(root for root in _option("bundle_roots").split(os.pathsep) if root.strip())


def registered_bundles() -> Mapping[str, str]:
    """Return the bundle path of each workflow that the configuration names.

    Raises
    ------
    QoSFlowError
        When the option is not a JSON object of texts.
    """
    text = _option("workflows")
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(path, str) for path in found.values()):
        raise _wrong("workflows", text, 'Give a JSON object, as in {"genome": "/srv/bundles/genome"}.')
    return found


def max_map_length() -> int:
    """Return over how many rows Airflow maps a task at most."""
    return conf.getint("core", "max_map_length", fallback=1024)


def page_path() -> str:
    """Return the path of QoSFlow's page on the web server, below the path of ``[api] base_url``."""
    base_url = conf.get("api", "base_url", fallback="") or "/"
    return f"{urlsplit(base_url).path.rstrip('/')}/qosflow"


def _option(name: str) -> str:
    # The fallback serves processes that did not load the providers' defaults, and installations from folders.
    default = get_provider_info()["config"][SECTION]["options"][name]["default"]
    return conf.get(SECTION, name, fallback=default) or ""


def _wrong(name: str, text: str, cure: str) -> QoSFlowError:
    return QoSFlowError(f"option [{SECTION}] {name} of Airflow's configuration is {text!r}", cure=cure)
