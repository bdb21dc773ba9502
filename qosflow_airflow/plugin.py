"""What QoSFlow adds to Airflow: its pages, deadlines from parameters, and an ear for finished tasks."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from qosflow_airflow.hooks.settings import page_path
from qosflow_airflow.listeners.feedback import FeedbackListener


class QoSFlowPlugin(AirflowPlugin):
    """The pages under ``/qosflow``, their entry in the navigation, deadlines, and the listener."""

    name = "qosflow"
    listeners = [FeedbackListener()]  # noqa: RUF012 - Airflow declares it, and not as a class variable
    external_views = [  # noqa: RUF012 - Airflow declares it, and not as a class variable
        {
            "name": "QoSFlow",
            "href": f"{page_path()}/",
            "destination": "nav",
            "url_route": "qosflow",
        }
    ]

    @property
    def deadline_references(self) -> list[Any]:  # type: ignore[override]  # Airflow reads an attribute
        """The references of deadlines, imported where Airflow asks for them, which no task does."""
        from qosflow_airflow.operators.deadline import QoSParamDeadline

        return [QoSParamDeadline]

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]  # Airflow reads an attribute
        """The application, made only where it is asked for: importing it takes a second in every worker."""
        from qosflow_airflow.web.app import create_app

        return [{"name": "qosflow", "url_prefix": "/qosflow", "app": create_app()}]
