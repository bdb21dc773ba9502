"""Storage tiers: shared by all nodes or local to one, with capacity, price and mount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.exceptions import TierError

if TYPE_CHECKING:
    from qosflow_airflow.core.cluster_volumes import ClusterVolume


@frozen
class StorageTier:
    """A storage class. ``capacity_bytes`` is per node for a local tier and in all for a shared one.

    ``memory`` says that what lies on the tier takes the node's memory (tmpfs). ``mount`` is the folder where
    tasks see the tier. ``profile`` is the name under which the storage profile knows the tier, by default its
    own. ``price_per_gib_hour`` is ``None`` when not known. ``volume`` is what the tier is in a Kubernetes
    cluster, ``None`` where it is not used in one.
    """

    name: str
    shared: bool
    mount: str | None = None
    capacity_bytes: int | None = None
    price_per_gib_hour: float | None = None
    memory: bool = False
    profile: str | None = None
    volume: ClusterVolume | None = None

    @property
    def profile_name(self) -> str:
        """The name of the tier in the storage profile."""
        return self.profile or self.name


class NodePool(NamedTuple):
    """What one node costs and holds; ``None`` where not known.

    ``slots`` is how many tasks of a stage run at once on a node; ``None`` lets all of them.
    """

    price_per_hour: float | None = None
    memory_bytes: int | None = None
    slots: int | None = None

    def tasks_at_once(self, tasks_per_node: int) -> int:
        """Return how many of a node's tasks run at the same time."""
        return tasks_per_node if self.slots is None else min(tasks_per_node, self.slots)

    def busy_slots(self, tasks: int, nodes: int) -> int:
        """Return how many of a stage's tasks run at once on ``nodes`` nodes."""
        return min(nodes * self.tasks_at_once(-(-tasks // nodes)), tasks)


@frozen
class TierCatalog:
    """The tiers of a platform: shared ones first, then the local ones from fastest to slowest.

    ``home`` is the shared tier where initial data lies and where final data must end.

    Raises
    ------
    TierError
        When there is no shared tier, a name is empty or given twice, ``home`` is not a shared tier, or a
        local tier stands before a shared one.
    """

    tiers: tuple[StorageTier, ...]
    home: str = ""
    node: NodePool = field(default=NodePool())

    def __post_init__(self) -> None:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) != len(names) or not all(names):
            raise TierError(f"tier names {names} are empty or given twice", cure="Name each tier once.")
        shared = [tier.name for tier in self.tiers if tier.shared]
        if not shared:
            raise TierError("no tier is shared", cure="Initial and final data need one `shared: true` tier.")
        if names[: len(shared)] != shared:
            raise TierError(
                f"a local tier stands before a shared one in {names}",
                cure="List shared tiers first, then local tiers from fastest to slowest.",
            )
        if not self.home:
            object.__setattr__(self, "home", shared[0])
        if self.home not in shared:
            raise TierError(
                f"home {self.home!r} is not a shared tier", cure=f"Use one of {', '.join(shared)}."
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in declared order: the order of every tier axis."""
        return tuple(tier.name for tier in self.tiers)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each tier on the tier axis."""
        return {name: position for position, name in enumerate(self.names)}

    @cached_property
    def shared(self) -> tuple[bool, ...]:
        """Per tier, whether all nodes see it."""
        return tuple(tier.shared for tier in self.tiers)

    def tier(self, name: str) -> StorageTier:
        """Return the tier called ``name``."""
        try:
            return self.tiers[self.index[name]]
        except KeyError:
            raise TierError(f"unknown tier {name!r}", cure=f"Use one of {', '.join(self.names)}.") from None

    def select(self, names: Iterable[str]) -> TierCatalog:
        """Return the catalog with only the tiers in ``names``, in this catalog's order."""
        wanted = {self.tier(name).name for name in names}
        tiers = tuple(tier for tier in self.tiers if tier.name in wanted)
        return TierCatalog(tiers, self.home if self.home in wanted else "", self.node)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the inverse of :meth:`from_json`."""
        return {
            "tiers": [asdict(tier) for tier in self.tiers],
            "home": self.home,
            "node": self.node._asdict(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TierCatalog:
        """Build a catalog from what :meth:`to_json` returned."""
        return cls(
            tuple(_tier_from_json(tier) for tier in value["tiers"]), value["home"], NodePool(**value["node"])
        )


def _tier_from_json(value: Mapping[str, Any]) -> StorageTier:
    # Models that were published before clusters were known have no volume.
    volume = value.get("volume")
    return StorageTier(**{**value, "volume": None if volume is None else _volume_from_json(volume)})


def _volume_from_json(value: Mapping[str, Any]) -> ClusterVolume:
    # Imported here: only tiers in a cluster have one.
    from qosflow_airflow.core.cluster_volumes import ClusterVolume

    return ClusterVolume.from_json(value)
