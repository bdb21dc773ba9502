"""Node-hours and money."""

from __future__ import annotations

import numpy as np
import pytest

from qosflow_airflow.core.cost import check_priced, money, node_hours
from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.exceptions import RequestError


def catalog(node_price: float | None, storage_price: float | None = None) -> TierCatalog:
    tier = StorageTier("pfs", True, price_per_gib_hour=storage_price)
    return TierCatalog((tier,), node=NodePool(price_per_hour=node_price))


def test_node_hours_are_nodes_times_hours() -> None:
    assert node_hours(4, np.array([3600.0, 900.0, 0.0])).tolist() == [4.0, 1.0, 0.0]
    assert np.isnan(node_hours(4, np.array([np.nan]))).all()


def test_money_is_node_hours_at_the_price_of_one() -> None:
    assert money(catalog(2.5), 4, np.array([3600.0])).tolist() == [10.0]
    assert money(catalog(0.0, 0.0), 4, np.array([3600.0])).tolist() == [0.0]


def test_an_unknown_price_is_never_free() -> None:
    with pytest.raises(
        RequestError, match=r"the price of a node-hour is not known\. Set `node: price_per_hour`"
    ):
        check_priced(catalog(None))


def test_a_storage_price_is_refused_rather_than_left_out() -> None:
    with pytest.raises(RequestError, match="tier 'pfs' has a price per GiB-hour, and stored volumes are not"):
        money(catalog(2.5, 0.01), 4, np.array([3600.0]))
