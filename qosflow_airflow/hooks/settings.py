"""The options of section ``[qosflow]`` in Airflow's configuration, with the provider metadata's defaults."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.configuration import AIRFLOW_HOME, conf

from qosflow_airflow.exceptions import QoSFlowError, RequestError
from qosflow_airflow.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from qosflow_airflow.learn.layers import Layers

SECTION = "qosflow"
DEFAULT_CLASS = "default"
"""The class of nodes that stands for all of them."""


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


def tier_roots() -> tuple[str, ...]:
    """Return the folders below which tiers may be measured; without any, none can be."""
    return tuple(root for root in _option("tier_roots").split(os.pathsep) if root.strip())


def node_classes() -> Mapping[str, Mapping[str, str]]:
    """Return queue and pool of each class of nodes to be measured; one without, where none is named.

    Raises
    ------
    QoSFlowError
        When the option is not a JSON object of such objects, or a name cannot be that of a task and a folder.
    """
    text = _option("node_classes")
    if not text.strip():
        return {DEFAULT_CLASS: {}}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found or not all(map(_is_class, found, found.values())):
        cure = (
            'Give a JSON object, as in {"fat": {"queue": "fat"}, "thin": {"queue": "thin", "pool": "thin"}}.'
        )
        raise _wrong("node_classes", text, cure)
    return found


def _is_class(name: str, options: object) -> bool:
    return (
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]{0,99}", name) is not None
        and isinstance(options, dict)
        and options.keys() <= {"queue", "pool"}
        and all(isinstance(value, str) and value for value in options.values())
    )


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


def layers() -> Layers:
    """Return what answers heed besides the I/O model.

    Raises
    ------
    QoSFlowError
        When the option names a layer that there is not.
    """
    from qosflow_airflow.learn.layers import Layers

    text = _option("layers")
    try:
        return Layers.parse(text)
    except RequestError as error:
        raise _wrong("layers", text, str(error.cure)) from None


def prometheus() -> tuple[str, str] | None:
    """Return the address of a Prometheus server and the query that tells a host's load, if any is set.

    Raises
    ------
    QoSFlowError
        When the address is none of http or https, or one of the two is missing.
    """
    url, query = _option("prometheus_url").strip(), _option("prometheus_query").strip()
    if not url:
        return None
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise _wrong("prometheus_url", url, "Give an address as in http://prometheus:9090.")
    if not query:
        raise _wrong("prometheus_query", query, "Give the query that tells how busy $host is.")
    return url, query


def spool_folder() -> Path:
    """Return where tasks leave what they tell while the database is away: in the state folder, if any."""
    return Path(os.environ.get("QOSFLOW_HOME") or Path(AIRFLOW_HOME, "qosflow")) / "spool"


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
