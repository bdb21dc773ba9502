"""QoSFlow's plugin for installations that copy folders instead of installing packages.

Where the package is installed, Airflow finds the plugin by its entry point, and a second copy from this
folder would be refused with a warning; so nothing is exported then.
"""

from __future__ import annotations

from importlib.metadata import entry_points

if not any(entry.name == "qosflow" for entry in entry_points(group="airflow.plugins")):
    from qosflow_airflow.plugin import QoSFlowPlugin

    __all__ = ["QoSFlowPlugin"]
