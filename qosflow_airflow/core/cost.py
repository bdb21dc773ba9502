"""What a run takes besides time: node-hours and money."""

from __future__ import annotations

import numpy as np

from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import FloatArray, StageTimes
from qosflow_airflow.exceptions import RequestError

SECONDS_PER_HOUR = 3600.0
GIB = 1 << 30


def node_hours(nodes: int, makespan_s: FloatArray) -> FloatArray:
    """Return the hours for which ``nodes`` nodes are held."""
    return np.asarray(nodes * makespan_s / SECONDS_PER_HOUR)


def check_priced(catalog: TierCatalog, times: StageTimes) -> float:
    """Return the price of a node-hour.

    Raises
    ------
    RequestError
        When no price is known, or a tier has a storage price and the trace does not tell what lies on it.
    """
    if catalog.node.price_per_hour is None:
        raise RequestError(
            "the price of a node-hour is not known", cure="Set `node: price_per_hour` in tiers.yaml."
        )
    priced = [tier.name for tier in catalog.tiers if tier.price_per_gib_hour]
    if priced and (times.output_bytes is None or np.isnan(times.output_bytes).any()):
        raise RequestError(
            f"tier {priced[0]!r} has a price per GiB-hour, but no trace tells what every stage writes",
            cure="Trace all stages, or remove `price_per_gib_hour` to compare by node-hours.",
        )
    return catalog.node.price_per_hour


def storage_per_hour(catalog: TierCatalog, times: StageTimes) -> FloatArray:
    """Return the price of an hour of each stage's outputs on each tier (S x T); prices not given are 0."""
    prices = np.array([tier.price_per_gib_hour or 0.0 for tier in catalog.tiers])
    if times.output_bytes is None or not prices.any():
        return np.zeros((len(times.stages), len(prices)))
    return np.asarray(times.output_bytes[:, None] / GIB * prices)


def money(catalog: TierCatalog, times: StageTimes, layouts: Layouts, makespan_s: FloatArray) -> FloatArray:
    """Return the price of each layout (C x S) of the given makespan (C), in the currency of ``tiers.yaml``.

    Nodes are held for the whole makespan, and so is what a stage writes to its tier.
    """
    held = times.nodes * check_priced(catalog, times)
    stored = storage_per_hour(catalog, times)[np.arange(layouts.shape[1]), layouts].sum(axis=1)
    return np.asarray((held + stored) * makespan_s / SECONDS_PER_HOUR)


def balanced(nodes: int, makespan_s: FloatArray) -> FloatArray:
    """Return the geometric mean of makespan and node-seconds: a share less of either weighs the same."""
    return np.asarray(makespan_s * np.sqrt(nodes))
