"""The tier catalog of a bundle without ``tiers.yaml``: from given names, or from the transfer times."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.transfer_table import TransferTable
from qosflow_airflow.exceptions import TierError
from qosflow_airflow.readers.tiers_yaml import check_tier_name


def build_catalog(names: Sequence[str] | None, table: TransferTable | None) -> TierCatalog | None:
    """Return the catalog of ``names``, or of every tier in ``table``; ``None`` with neither.

    The table tells shared from local tiers; without it the first name is shared and the others are local.
    Shared tiers come first, then local ones: as named, or else from fastest to slowest by the table.

    Raises
    ------
    TierError
        When a name is not in the table, is given twice, or none is shared.
    """
    if names is None:
        return None if table is None else _ordered(table, _by_speed(table))
    for name in named(names):
        check_tier_name(name)
    if table is None:
        return TierCatalog(tuple(StorageTier(name, at == 0) for at, name in enumerate(names)))
    unknown = [name for name in names if name not in table.tiers]
    if unknown:
        known = ", ".join(table.tiers)
        raise TierError(f"no transfer times for {', '.join(unknown)}", cure=f"Use one of {known}.")
    return _ordered(table, names)


def named(names: Sequence[str]) -> Sequence[str]:
    """Return ``names``, or raise a :class:`TierError` when there are none."""
    if not names:
        raise TierError("the list of tiers is empty", cure="Name at least one shared tier, or give no list.")
    return names


def _ordered(table: TransferTable, names: Sequence[str]) -> TierCatalog:
    tiers = [StorageTier(name, name not in table.local_tiers) for name in names]
    return TierCatalog(tuple(sorted(tiers, key=lambda tier: not tier.shared)))


def _by_speed(table: TransferTable) -> list[str]:
    """Return the tiers from fastest to slowest: by the median time to write and read from stage to stage.

    Only rows between two stages count. The table lists copies of many file groups, whose seconds for a tier
    say more of how often a group was repeated than of the tier.
    """
    frame = table.frame
    outside = frame["producer"].str.startswith("stage_in-") | frame["consumer"].str.startswith("stage_out-")
    rows = frame[(frame["producer_tier"] == frame["consumer_tier"]) & ~outside]
    seconds = (rows["producer_s"] + rows["consumer_s"]).groupby(rows["consumer_tier"]).median().to_dict()

    def slowness(name: str) -> float:
        found = float(seconds.get(name, math.nan))
        return math.inf if math.isnan(found) else found

    return sorted(table.tiers, key=slowness)
