"""Tiers and catalogs: their order, their home, what they refuse."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.exceptions import TierError

PFS = StorageTier("pfs", shared=True, mount="/pfs", capacity_bytes=2**40, price_per_gib_hour=0.01)
NFS = StorageTier("nfs", shared=True)
TMPFS = StorageTier("tmpfs", shared=False, mount="/dev/shm", memory=True, profile="ram")
SSD = StorageTier("ssd", shared=False)


def test_home_is_the_first_shared_tier_unless_said() -> None:
    assert TierCatalog((PFS, NFS, TMPFS)).home == "pfs"
    assert TierCatalog((PFS, NFS, TMPFS), home="nfs").home == "nfs"


def test_axis_order_is_the_declared_one() -> None:
    catalog = TierCatalog((PFS, TMPFS, SSD))
    assert catalog.names == ("pfs", "tmpfs", "ssd")
    assert catalog.index == {"pfs": 0, "tmpfs": 1, "ssd": 2}
    assert catalog.shared == (True, False, False)
    assert catalog.tier("ssd") is SSD


def test_the_profile_may_know_a_tier_by_another_name() -> None:
    assert TMPFS.profile_name == "ram"
    assert SSD.profile_name == "ssd"


@pytest.mark.parametrize(
    ("tiers", "home", "said"),
    [
        ((), "", "no tier is shared"),
        ((TMPFS,), "", "no tier is shared"),
        ((PFS, PFS), "", "given twice"),
        ((PFS, StorageTier("", True)), "", "empty or given twice"),
        ((TMPFS, PFS), "", "a local tier stands before a shared one"),
        ((PFS, TMPFS, NFS), "", "List shared tiers first"),
        ((PFS, TMPFS), "tmpfs", "home 'tmpfs' is not a shared tier. Use one of pfs."),
        ((PFS, TMPFS), "disk", "home 'disk' is not a shared tier"),
    ],
)
def test_what_no_platform_looks_like_is_refused(tiers: tuple[StorageTier, ...], home: str, said: str) -> None:
    with pytest.raises(TierError, match=said):
        TierCatalog(tiers, home)


def test_an_unknown_tier_is_an_error_that_names_the_known() -> None:
    with pytest.raises(TierError, match=r"unknown tier 'nvme'\. Use one of pfs, ssd"):
        TierCatalog((PFS, SSD)).tier("nvme")


def test_select_keeps_the_catalog_order_and_finds_a_new_home() -> None:
    catalog = TierCatalog((PFS, NFS, TMPFS, SSD), home="nfs", node=NodePool(price_per_hour=3.0))
    assert catalog.select(["ssd", "nfs"]).names == ("nfs", "ssd")
    assert catalog.select(["ssd", "nfs"]).home == "nfs"
    assert catalog.select(["pfs", "ssd"]).home == "pfs"
    assert catalog.select(["nfs"]).node == catalog.node
    with pytest.raises(TierError, match="unknown tier 'nvme'"):
        catalog.select(["pfs", "nvme"])
    with pytest.raises(TierError, match="no tier is shared"):
        catalog.select(["ssd"])


def test_slots_limit_the_tasks_that_run_at_once() -> None:
    assert NodePool().tasks_at_once(64) == 64
    assert NodePool(slots=16).tasks_at_once(64) == 16
    assert NodePool(slots=16).tasks_at_once(3) == 3


tiers = st.builds(
    StorageTier,
    name=st.text(min_size=1, max_size=5),
    shared=st.booleans(),
    mount=st.none() | st.just("/data"),
    capacity_bytes=st.none() | st.integers(0, 2**60),
    price_per_gib_hour=st.none() | st.floats(0, 10),
    memory=st.booleans(),
    profile=st.none() | st.just("disk"),
)


@given(st.lists(tiers, min_size=1, max_size=6, unique_by=lambda tier: tier.name))
def test_any_catalog_survives_json(found: list[StorageTier]) -> None:
    shared_first = sorted(found, key=lambda tier: not tier.shared)
    if not shared_first[0].shared:
        return
    catalog = TierCatalog(tuple(shared_first), node=NodePool(1.5, 2**34, 8))
    assert TierCatalog.from_json(json.loads(json.dumps(catalog.to_json()))) == catalog
