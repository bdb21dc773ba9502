"""``tiers.yaml``: the storage tiers of a platform, and what a node costs and holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.exceptions import TierError
from qosflow_airflow.readers.cluster_volume import read_cluster_volume
from qosflow_airflow.readers.document import MAX_DOCUMENT_BYTES, Node, Origin
from qosflow_airflow.readers.document_yaml import parse_yaml
from qosflow_airflow.readers.files import SourceFile, read_file
from qosflow_airflow.readers.stages import located

BYTES_PER_GIB = 2**30
MAX_GIB = 1e12
MAX_PRICE = 1e9
MAX_SLOTS = 1_000_000

OPTIONAL = ("mount", "capacity_gib", "price_per_gib_hour", "memory", "profile", "kubernetes")


def read_tiers_yaml(file: str | Path | SourceFile) -> TierCatalog:
    """Read the tiers: shared ones first, then the local ones from fastest to slowest.

    ::

        home: disk               # shared tier of initial and final data; default the first shared one
        tiers:
          disk:  {shared: true,  mount: /data, capacity_gib: 500, price_per_gib_hour: 0.0, profile: disk}
          tmpfs: {shared: false, mount: /dev/shm/work, capacity_gib: 8, memory: true}
        node: {price_per_hour: 0.0, memory_gib: 24, slots: 4}

    Only ``tiers``, and each tier's ``shared``, are required. A relative ``mount`` is relative to the file's
    folder. ``profile`` is the name under which the storage rates know the tier; default its own.
    ``kubernetes`` says what the tier is in a cluster: see :func:`read_cluster_volume`.

    Raises
    ------
    BundleError
        When the file cannot be read or is not YAML.
    TierError
        When a key is unknown, a value is of the wrong kind, or the tiers do not make a catalog.
    """
    source = read_file(file, limit_bytes=MAX_DOCUMENT_BYTES)
    document = parse_yaml(source, Origin(source.name, TierError))
    top = document.fields(("tiers",), ("home", "node"))
    folder = source.path.resolve().parent
    tiers = tuple(_tier(name, node, folder) for name, node in top["tiers"].mapping().items())
    home = top["home"].text() if "home" in top else ""
    pool = _node_pool(top["node"]) if "node" in top else NodePool()
    try:
        return TierCatalog(tiers, home, pool)
    except TierError as error:
        raise located(error, document, "home" if home and _makes_catalog(tiers, pool) else "tiers") from None


def check_tier_name(name: str) -> str:
    """Return ``name``, or raise a :class:`TierError` when it cannot stand for a tier."""
    if not name.strip() or name != name.strip() or not name.isprintable() or "-" in name:
        raise TierError(
            f"{name!r} cannot be the name of a tier",
            cure="Use letters, digits and underscores; a hyphen separates the two tiers of a copy.",
        )
    return name


def _makes_catalog(tiers: tuple[StorageTier, ...], pool: NodePool) -> bool:
    try:
        TierCatalog(tiers, "", pool)
    except TierError:
        return False
    return True


def _tier(name: str, node: Node, folder: Path) -> StorageTier:
    try:
        check_tier_name(name)
    except TierError as error:
        error.source, error.line = node.origin.source, node.line
        raise
    fields = node.fields(("shared",), OPTIONAL)
    tier = StorageTier(
        name=name,
        shared=fields["shared"].flag(),
        # normpath, not resolve: what a symbolic link points to may differ from node to node.
        mount=os.path.normpath(folder / fields["mount"].text()) if "mount" in fields else None,
        capacity_bytes=_bytes(fields, "capacity_gib"),
        price_per_gib_hour=_price(fields, "price_per_gib_hour"),
        memory=fields["memory"].flag() if "memory" in fields else False,
        profile=fields["profile"].text() if "profile" in fields else None,
    )
    if "kubernetes" not in fields:
        return tier
    return replace(tier, volume=read_cluster_volume(fields["kubernetes"], tier))


def _node_pool(node: Node) -> NodePool:
    fields = node.fields((), ("price_per_hour", "memory_gib", "slots"))
    return NodePool(
        price_per_hour=_price(fields, "price_per_hour"),
        memory_bytes=_bytes(fields, "memory_gib"),
        slots=fields["slots"].whole(1, MAX_SLOTS) if "slots" in fields else None,
    )


def _bytes(fields: Mapping[str, Node], name: str) -> int | None:
    if name not in fields:
        return None
    # At least one byte: a capacity of 0 would leave the tier unusable without a word.
    return round(fields[name].number(1 / BYTES_PER_GIB, MAX_GIB) * BYTES_PER_GIB)


def _price(fields: Mapping[str, Node], name: str) -> float | None:
    return fields[name].number(0, MAX_PRICE) if name in fields else None
