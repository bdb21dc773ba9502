"""Which function draws which figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from qosflow_airflow.figures.regions import draw_region_costs, draw_regions
from qosflow_airflow.figures.signature import draw_signature
from qosflow_airflow.figures.totals import draw_totals

DRAWINGS: Mapping[str, Callable[[Mapping[str, Any]], Figure]] = {
    "regions": draw_regions,
    "costs": draw_region_costs,
    "totals": draw_totals,
    "signature": draw_signature,
}
"""By the kind that the data of a figure names."""


def draw(data: Mapping[str, Any]) -> Figure:
    """Draw the data of a figure."""
    return DRAWINGS[data["figure"]](data)
