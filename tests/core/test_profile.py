"""Measured rates: exact where measured, a power law in between, and said so outside."""

from __future__ import annotations

import math
from itertools import product

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.profile import FILE_BYTES, RateEstimate, RateQuery, StorageProfile
from qosflow_airflow.core.rates import COLUMNS, StorageRates
from qosflow_airflow.core.transfer import Provenance
from qosflow_airflow.exceptions import MeasurementError
from tests.support.traces import MIB, profile, rate

NODES, TASKS, ACCESS, VOLUME = (1, 2, 8), (1.0, 4.0), (4096.0, 65536.0, 1048576.0), (1e7, 1e9)
POWERS = (0.7, 0.3, 0.25, -0.1)


def power_law(nodes: float, tasks: float, access: float, volume: float) -> float:
    """A rate of the form that log-log interpolation takes exactly."""
    return 3.0 * math.prod(
        value**power for value, power in zip((nodes, tasks, access, volume), POWERS, strict=True)
    )


def grid(cells: list[tuple[float, ...]]) -> StorageProfile:
    return profile(
        rate("read", "ssd", power_law(*cell), nodes=cell[0], tasks_per_node=cell[1], access_bytes=cell[2],
             volume_bytes=cell[3])
        for cell in cells
    )  # fmt: skip


FULL = grid(list(product(NODES, TASKS, ACCESS, VOLUME)))


def ask(found: StorageProfile, *point: float, operation: str = "read", tier: str = "ssd") -> RateEstimate:
    return found.rate(RateQuery(operation, tier, tier, *point))


@pytest.mark.parametrize("point", list(product(NODES, TASKS, ACCESS, VOLUME)))
def test_exact_at_measured_points(point: tuple[float, ...]) -> None:
    found = ask(FULL, *point)
    assert found.mib_s == pytest.approx(power_law(*point), rel=1e-12)
    assert found.provenance is Provenance.MEASURED


@settings(max_examples=80)
@given(st.tuples(st.floats(1, 8), st.floats(1, 4), st.floats(4096, 2**20), st.floats(1e7, 1e9)))
def test_exact_between_levels_on_a_power_law(point: tuple[float, ...]) -> None:
    found = ask(FULL, *point)
    assert found.mib_s == pytest.approx(power_law(*point), rel=1e-9)
    assert found.provenance is Provenance.MEASURED


@settings(max_examples=80)
@given(
    st.lists(st.floats(1, 1e4), min_size=2, max_size=5),
    st.floats(1, 4).map(lambda weight: (weight - 1) / 3),
)
def test_between_two_levels_the_rate_lies_between_theirs(rates: list[float], weight: float) -> None:
    found = profile(rate("read", "ssd", mib_s, nodes=2**n) for n, mib_s in enumerate(rates))
    low, high = sorted(rates[:2])
    estimate = ask(found, 2**weight, 1, MIB, 100 * MIB)
    assert low * (1 - 1e-9) <= estimate.mib_s <= high * (1 + 1e-9)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("end", [0, -1])
def test_outside_the_nearest_level_counts_and_is_said_to_be_extrapolated(axis: int, end: int) -> None:
    point = [levels[0] for levels in (NODES, TASKS, ACCESS, VOLUME)]
    point[axis] = (NODES, TASKS, ACCESS, VOLUME)[axis][end]
    expected = power_law(*point)
    point[axis] *= 10 if end else 0.1
    found = ask(FULL, *point)
    assert found.mib_s == pytest.approx(expected, rel=1e-9)
    assert found.provenance is Provenance.EXTRAPOLATED


@pytest.mark.parametrize(("operation", "tier"), [("write", "ssd"), ("read", "tmpfs"), ("copy", "ssd")])
def test_what_was_never_measured_is_unknown(operation: str, tier: str) -> None:
    found = ask(FULL, 1, 1, 4096, 1e7, operation=operation, tier=tier)
    assert math.isnan(found.mib_s)
    assert found.provenance is Provenance.UNKNOWN


def test_a_copy_is_known_by_both_ends() -> None:
    found = profile([rate("copy", "ssd-pfs", 100.0), rate("copy", "pfs-ssd", 300.0)])
    there = found.rate(RateQuery("copy", "ssd", "pfs", 1, 1, MIB, 100 * MIB))
    back = found.rate(RateQuery("copy", "pfs", "ssd", 1, 1, MIB, 100 * MIB))
    assert there.mib_s == pytest.approx(100.0)
    assert back.mib_s == pytest.approx(300.0)
    assert found.tiers == frozenset()


def test_a_missing_cell_is_bridged_by_its_neighbours_on_the_next_axis() -> None:
    cells = [cell for cell in product(NODES, TASKS, ACCESS, VOLUME) if cell != (2, 1.0, 65536.0, 1e7)]
    found = ask(grid(cells), 2, 1, 65536, 1e9)
    assert found.mib_s == pytest.approx(power_law(2, 1, 65536, 1e9), rel=1e-9)
    bridged = ask(grid(cells), 2, 1, 65536, 1e7)
    assert math.isfinite(bridged.mib_s)


def test_repeats_count_by_their_median() -> None:
    found = profile(rate("read", "ssd", mib_s) for mib_s in (100.0, 110.0, 5000.0))
    assert ask(found, 1, 1, MIB, 100 * MIB).mib_s == pytest.approx(110.0)


def test_direct_rates_stand_in_only_where_there_are_no_others() -> None:
    direct, cached = rate("read", "ssd", 50.0, direct=True), rate("read", "ssd", 900.0)
    assert ask(profile([direct]), 1, 1, MIB, 100 * MIB).mib_s == pytest.approx(50.0)
    assert ask(profile([direct, cached]), 1, 1, MIB, 100 * MIB).mib_s == pytest.approx(900.0)


def test_a_query_of_nothing_is_still_finite() -> None:
    found = ask(FULL, 1, 1, 0, 0)
    assert math.isfinite(found.mib_s)
    assert found.provenance is Provenance.EXTRAPOLATED


def test_rates_need_their_columns_and_a_row() -> None:
    with pytest.raises(MeasurementError, match="there are no rates"):
        profile([])
    frame = pd.DataFrame([rate("read", "ssd", 1.0)]).drop(columns=["nodes", "direct"])
    with pytest.raises(MeasurementError, match="rates lack nodes, direct"):
        StorageRates(frame)
    found = StorageRates(
        pd.DataFrame([rate("copy", "b-a", 1.0), rate("read", "c", 1.0)], columns=list(COLUMNS))
    )
    assert found.tiers == ("b", "c", "a")


def by_volume(operation: str, tiers: str, rates_mib_s: dict[float, float]) -> list[dict[str, object]]:
    """Rows that differ in nothing but the volume, MiB."""
    return [
        rate(
            operation, tiers, mib_s, nodes=1, tasks_per_node=1.0, volume_bytes=volume * MIB, access_bytes=MIB
        )
        for volume, mib_s in rates_mib_s.items()
    ]


NOISY = {10.0: 100.0, 100.0: 130.0, 1000.0: 100.0, 10000.0: 130.0}


def test_interpolated_rates_carry_the_spread_of_points_left_out() -> None:
    noisy = by_volume("read", "ssd", NOISY)
    inside = profile(noisy).rate(RateQuery("read", "ssd", "ssd", 1, 1, MIB, 50 * MIB))
    outside = profile(noisy).rate(RateQuery("read", "ssd", "ssd", 1, 1, MIB, 10**6 * MIB))
    assert inside.low_mib_s < inside.mib_s < inside.high_mib_s
    assert inside.log_sd == pytest.approx(math.log(1.3), rel=1e-9)
    assert outside.log_sd >= inside.log_sd


def test_three_points_do_not_tell_how_far_off_a_rate_is() -> None:
    few = by_volume("read", "ssd", dict.fromkeys((10.0, 100.0, 1000.0), 100.0))
    asked = RateQuery("read", "ssd", "ssd", 1, 1, MIB, 50 * MIB)
    assert math.isnan(profile(few).rate(asked).log_sd)
    steady = by_volume("write", "ssd", dict.fromkeys((1.0, 10.0, 100.0, 1000.0), 100.0))
    # Operations that are known better say how wrong interpolating goes on this platform: pooled, all alike.
    known = profile([*few, *steady, *by_volume("copy", "ssd-nfs", NOISY)])
    far = 10**6 * MIB
    others = (
        RateQuery("copy", "ssd", "nfs", 1, 1, MIB, far),
        RateQuery("write", "ssd", "ssd", 1, 1, MIB, far),
    )
    sds = [known.rate(other).log_sd for other in others]
    assert sds[0] > sds[1]
    assert known.rate(asked).log_sd == pytest.approx(math.sqrt((sds[0] ** 2 + sds[1] ** 2) / 2))


def test_what_is_not_cached_is_read_at_the_devices_rate() -> None:
    known = profile(
        [rate("read", "nfs", 1000.0), rate("cold_read", "nfs", 50.0), rate("copy", "nfs-ssd", 200.0)]
    )
    read = RateQuery("read", "nfs", "nfs", 1, 1, 1 << 20, 100 * MIB)
    copy = RateQuery("copy", "nfs", "ssd", 1, 1, 1 << 20, 100 * MIB)
    assert known.rate(read).mib_s == pytest.approx(1000)
    assert known.rate(read._replace(cold_bytes=100 * MIB)).mib_s == pytest.approx(50)
    half = known.rate(read._replace(cold_bytes=50 * MIB))
    assert 100 / half.mib_s == pytest.approx(50 / 1000 + 50 / 50)
    # a copy reads first: what that takes longer, it takes longer
    cold = known.rate(copy._replace(cold_bytes=100 * MIB))
    assert 100 / cold.mib_s == pytest.approx(100 / 200 + 100 / 50 - 100 / 1000)


def test_without_cold_reads_every_read_is_alike() -> None:
    known = profile([rate("read", "nfs", 1000.0)])
    query = RateQuery("read", "nfs", "nfs", 1, 1, 1 << 20, 100 * MIB)
    assert known.rate(query._replace(cold_bytes=MIB))[:2] == known.rate(query)[:2]


def test_many_small_files_get_the_rate_of_a_small_transfer() -> None:
    small = rate("write", "ssd", 20.0, volume_bytes=1.0 * MIB, tasks_per_node=2.0, tasks=2)
    large = rate("write", "ssd", 400.0, volume_bytes=100.0 * MIB, tasks_per_node=2.0, tasks=2)
    known = profile([small, large])
    query = RateQuery("write", "ssd", "ssd", 1, 2, 1 << 20, 100 * MIB)
    assert known.rate(query).mib_s == pytest.approx(400)
    assert known.rate(query._replace(file_bytes=MIB / 2)).mib_s == pytest.approx(20)
    assert known.rate(query._replace(file_bytes=FILE_BYTES)).mib_s == pytest.approx(400)
    one = query._replace(volume_bytes=1 * MIB)
    assert known.rate(one._replace(file_bytes=5 * MIB))[:2] == known.rate(one)[:2], (
        "no file is larger than all"
    )
