"""What a run takes besides time: node-hours and money."""

from __future__ import annotations

import numpy as np

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.exceptions import RequestError

SECONDS_PER_HOUR = 3600.0


def node_hours(nodes: int, makespan_s: FloatArray) -> FloatArray:
    """Return the hours for which ``nodes`` nodes are held."""
    return np.asarray(nodes * makespan_s / SECONDS_PER_HOUR)


def check_priced(catalog: TierCatalog) -> float:
    """Return the price of a node-hour.

    Raises
    ------
    RequestError
        When no price is known, or a tier has a storage price, which needs volumes that a model does not hold.
    """
    if catalog.node.price_per_hour is None:
        raise RequestError(
            "the price of a node-hour is not known", cure="Set `node: price_per_hour` in tiers.yaml."
        )
    for tier in catalog.tiers:
        if tier.price_per_gib_hour:
            raise RequestError(
                f"tier {tier.name!r} has a price per GiB-hour, and stored volumes are not modelled",
                cure="Remove `price_per_gib_hour` to compare by node-hours.",
            )
    return catalog.node.price_per_hour


def money(catalog: TierCatalog, nodes: int, makespan_s: FloatArray) -> FloatArray:
    """Return the price of the node-hours, in the currency of ``tiers.yaml``."""
    return check_priced(catalog) * node_hours(nodes, makespan_s)
