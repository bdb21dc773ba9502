"""What QoSFlow adds to Airflow: pages and tabs, deadlines from parameters, and an ear for finished tasks."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from qosflow_airflow.hooks.settings import page_path
from qosflow_airflow.listeners.feedback import FeedbackListener

TABS = {
    "dag": ("dag", "dag_id={DAG_ID}"),
    "dag_run": ("run", "dag_id={DAG_ID}&run_id={RUN_ID}"),
    "task_instance": (
        "task-instance",
        "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
    ),
}
"""Where Airflow shows a tab: the page in it, and its query, in which Airflow fills in the names."""


class QoSFlowPlugin(AirflowPlugin):
    """The pages under ``/qosflow``, their entry in the navigation, tabs, deadlines, and the listener."""

    name = "qosflow"
    listeners = [FeedbackListener()]  # noqa: RUF012 - Airflow declares it, and not as a class variable
    external_views = [  # noqa: RUF012 - Airflow declares it, and not as a class variable
        {
            "name": "QoSFlow",
            "href": f"{page_path()}/",
            "destination": "nav",
            "url_route": "qosflow",
        },
        *(
            {
                "name": "QoSFlow",
                "href": f"{page_path()}/{page}?{query}",
                "destination": destination,
                "url_route": f"qosflow-{page}",
            }
            for destination, (page, query) in TABS.items()
        ),
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
