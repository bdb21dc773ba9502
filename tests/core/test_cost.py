"""Node-hours and money."""

from __future__ import annotations

import numpy as np
import pytest

from qosflow_airflow.core.cost import balanced, check_priced, money, node_hours
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.core.transfer import StageTimes, blank_tables
from qosflow_airflow.exceptions import RequestError

GIB = 2.0**30
HERE, THERE = np.array([[0, 0]], dtype=np.int8), np.array([[0, 1]], dtype=np.int8)


def catalog(node_price: float | None, *storage_prices: float | None) -> TierCatalog:
    prices = storage_prices or (None,)
    tiers = [StorageTier(f"t{t}", t == 0, price_per_gib_hour=price) for t, price in enumerate(prices)]
    return TierCatalog(tuple(tiers), node=NodePool(price_per_hour=node_price))


def stage_times(*output_gib: float, nodes: int = 4) -> StageTimes:
    written = np.array(output_gib) * GIB if output_gib else None
    return StageTimes(nodes, ("a", "b"), ("t0",), (), **blank_tables(2, 1, 0), output_bytes=written)


def test_node_hours_are_nodes_times_hours() -> None:
    assert node_hours(4, np.array([3600.0, 900.0, 0.0])).tolist() == [4.0, 1.0, 0.0]
    assert np.isnan(node_hours(4, np.array([np.nan]))).all()


def test_money_is_node_hours_at_the_price_of_one() -> None:
    assert money(catalog(2.5), stage_times(), HERE, np.array([3600.0])).tolist() == [10.0]
    assert money(catalog(0.0, 0.0), stage_times(), HERE, np.array([3600.0])).tolist() == [0.0]


def test_what_stages_write_costs_where_it_lies() -> None:
    prices, times = catalog(2.5, 0.01, 0.5), stage_times(10.0, 4.0)
    assert money(prices, times, HERE, np.array([3600.0])).tolist() == [pytest.approx(10 + 0.1 + 0.04)]
    assert money(prices, times, THERE, np.array([1800.0])).tolist() == [pytest.approx((10 + 0.1 + 2) / 2)]


def test_an_unknown_price_is_never_free() -> None:
    with pytest.raises(
        RequestError, match=r"the price of a node-hour is not known\. Set `node: price_per_hour`"
    ):
        check_priced(catalog(None), stage_times())


@pytest.mark.parametrize("written", [(), (10.0, np.nan)])
def test_a_storage_price_of_unknown_volumes_is_refused_rather_than_left_out(
    written: tuple[float, ...],
) -> None:
    with pytest.raises(RequestError, match="tier 't0' has a price per GiB-hour, but no trace tells"):
        money(catalog(2.5, 0.01), stage_times(*written), HERE, np.array([3600.0]))


def test_balanced_halves_neither_time_nor_nodes_for_free() -> None:
    # Four times the nodes are worth it from half the time on.
    assert balanced(1, np.array([100.0])) == balanced(4, np.array([50.0]))
