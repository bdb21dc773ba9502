"""What Airflow's providers manager is told about this package.

Airflow calls this while it imports itself, so nothing of Airflow may be imported here.
"""

from __future__ import annotations

from typing import Any

from qosflow_airflow import __version__


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata: connection type, operator link and ``[qosflow]`` options."""
    return {
        "package-name": "airflow-provider-qosflow",
        "name": "QoSFlow",
        "description": "Storage tiers, node counts and parallelism for workflows, chosen from measurements "
        "to meet a quality-of-service request.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "qosflow",
                "hook-class-name": "qosflow_airflow.hooks.qosflow.QoSFlowHook",
            }
        ],
        "extra-links": ["qosflow_airflow.operators.recommend.QoSRecommendationLink"],
        "config": {"qosflow": {"description": "Options of QoSFlow.", "options": _options()}},
    }


def _options() -> dict[str, dict[str, Any]]:
    return {
        "conn_id": {
            "description": "The Airflow connection to the Postgres database of models and recommendations.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "qosflow_default",
            "default": "qosflow_default",
        },
        "bundle_roots": {
            "description": "Folders below which bundles (the measurements of a workflow) may be read, "
            "separated by the operating system's path separator. Empty: no bundle can be read.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "/srv/qosflow/bundles:/srv/shared/bundles",
            "default": "",
        },
        "tier_roots": {
            "description": "Folders below which the Dag qosflow_measure may measure storage tiers, separated "
            "by the operating system's path separator. Empty: none can be measured.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "/data/qosflow:/dev/shm/qosflow",
            "default": "",
        },
        "node_classes": {
            "description": "Classes of nodes whose tiers the Dag qosflow_measure measures: a JSON object "
            "from name to queue and pool. Empty: one class, of whichever node takes the task.",
            "version_added": "0.1.0",
            "type": "string",
            "example": '{"fat": {"queue": "fat"}, "thin": {"queue": "thin", "pool": "thin"}}',
            "default": "",
        },
        "workflows": {
            "description": "Registered workflows: a JSON object from workflow name to bundle path. "
            "Empty: none.",
            "version_added": "0.1.0",
            "type": "string",
            "example": '{"genome": "/srv/qosflow/bundles/genome"}',
            "default": "",
        },
        "layers": {
            "description": "What answers heed besides the I/O model: some of calibration, parallelism, cases "
            "and intervals, separated by commas, or none.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "calibration,intervals",
            "default": "calibration,parallelism,cases,intervals",
        },
        "prometheus_url": {
            "description": "The Prometheus server that is asked how busy the host of a finished task was. "
            "Empty: the host's load average counts.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "http://prometheus:9090",
            "default": "",
        },
        "prometheus_query": {
            "description": "The query whose value that is, 1 being fully busy; $host stands for the host.",
            "version_added": "0.1.0",
            "type": "string",
            "example": 'node_load1{nodename="$host"} / count(node_cpu_seconds_total'
            '{mode="idle",nodename="$host"})',
            "default": "",
        },
        "statement_timeout_s": {
            "description": "Seconds after which the database gives up on one statement.",
            "version_added": "0.1.0",
            "type": "float",
            "example": "30",
            "default": "10",
        },
    }
