"""The tiers of a run in pods: which they are, and what their volumes ask of a node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from qosflow_airflow.core.cluster_volumes import ClusterVolume
from qosflow_airflow.core.placement import Placement
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA
from qosflow_airflow.exceptions import TierError


def check_bound(catalog: TierCatalog, tiers: Sequence[str]) -> None:
    """Refuse tiers that tiers.yaml binds to no volume.

    Raises
    ------
    TierError
        When one of ``tiers`` has no volume in a cluster, or two of them want a node to be labelled
        differently.
    """
    unbound = [name for name in tiers if catalog.tier(name).volume is None]
    if unbound:
        raise TierError(
            f"no volume in the cluster for {', '.join(unbound)}",
            cure="Give each tier `kubernetes: {claim: ...}`, or another volume, in tiers.yaml, and build the "
            "model again.",
        )
    selector_of(catalog, tiers)


def selector_of(catalog: TierCatalog, tiers: Sequence[str]) -> dict[str, str]:
    """Return the labels of a node on which all of ``tiers`` are; errors are those of :func:`check_bound`."""
    labels: dict[str, str] = {}
    for name in tiers:
        for key, value in volume_of(catalog.tier(name)).node_selector.items():
            if labels.setdefault(key, value) != value:
                raise TierError(
                    f"one node cannot have {key}={labels[key]} and {key}={value}, as tier {name!r} wants",
                    cure="A run uses several tiers on one node: give each a label of its own.",
                )
    return labels


def tolerations_of(catalog: TierCatalog, tiers: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tolerations of all of ``tiers``, each once."""
    found: list[dict[str, Any]] = []
    for name in tiers:
        found += [dict(one) for one in volume_of(catalog.tier(name)).tolerations if dict(one) not in found]
    return found


def volume_of(tier: StorageTier) -> ClusterVolume:
    """Return the volume of a tier that was checked to have one."""
    assert tier.volume is not None
    return tier.volume


def used_tiers(placement: Placement, catalog: TierCatalog) -> list[str]:
    """Return the tiers that a run uses, the home tier among them, in the catalog's order."""
    used = {catalog.home, *(rows[0]["tier"] for rows in placement.stages.values())}
    return [name for name in catalog.names if name in used]


def check_initial_data(placement: Placement, home: StorageTier) -> None:
    """Refuse initial data that lie on no tier.

    Raises
    ------
    TierError
        When their folder is not below the mount of the home tier.
    """
    copied = [(row["data_of"], row["source"]) for rows in placement.stage_in.values() for row in rows]
    read = [item for rows in placement.stages.values() for item in rows[0]["inputs"].items()]
    sources = dict([*read, *copied])
    folder = sources.get(INITIAL_DATA)
    if folder is not None and not PurePosixPath(folder).is_relative_to(str(home.mount)):
        raise TierError(
            f"the initial data lie in {folder}, which no pod sees",
            cure=f"Put them below the mount of the home tier {home.name!r}: {home.mount}.",
        )
