"""The way from a task to its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from qosflow_airflow.hooks import settings
from qosflow_airflow.operators.run_rows import RETURN_VALUE

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class QoSRecommendationLink(BaseOperatorLink):
    """Leads from a task that recommended to the page of its recommendation."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Recommendation"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the path of the page, or an empty text where nothing was recommended."""
        found = getattr(operator, "recommendation_id", None) or _from_xcom(ti_key)
        return f"{settings.page_path()}/recommendations/{found}" if found else ""


def _from_xcom(ti_key: TaskInstanceKey) -> str | None:
    from airflow.sdk.execution_time.xcom import XCom

    summary = XCom.get_value(ti_key=ti_key, key=RETURN_VALUE)
    return summary.get("recommendation_id") if isinstance(summary, Mapping) else None
