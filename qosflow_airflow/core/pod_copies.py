"""What the pods of a run copy: inputs to their node's own tier, outputs to where they are needed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from qosflow_airflow.core.placement import Placement, Row
from qosflow_airflow.core.pod_tiers import volume_of
from qosflow_airflow.core.posix_patterns import posix_pattern
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA


@dataclass
class Copies:
    """What a pod copies, in order, as lines of text; and the tiers that it needs for that."""

    lines: list[str] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)

    def add(self, row: Row, record: str, *, may_be_empty: bool = False) -> None:
        """Add the copy of a row of a placement; ``record`` is the file that says how long it took."""
        pattern = posix_pattern(row["patterns"])
        head = {name: row[name] for name in ("stage", "data_of", "source_tier", "tier")}
        head |= {name: row[name] for name in ("source", "destination")}
        words = (row["source"], row["destination"], pattern or "", "any" if may_be_empty else "some", record)
        self.lines += [*words, json.dumps(head)[1:-1]]
        self.tiers += [row["source_tier"], row["tier"]]

    @property
    def text(self) -> str:
        """The copies as the pods' script reads them."""
        return "\n".join(self.lines)


def unbrought(placement: Placement, planned: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return, per stage, those before it that have begun by a plan which had it read elsewhere.

    ``planned`` are the tiers of all stages in the plan by which a stage has begun.
    """
    tiers = {stage: rows[0]["tier"] for stage, rows in placement.stages.items()}
    return {
        stage: tuple(
            name for name in rows[0]["inputs"] if name in planned and planned[name].get(stage) != tiers[stage]
        )
        for stage, rows in placement.stages.items()
    }


@dataclass(frozen=True)
class RunCopies:
    """The copies of one run on so many nodes.

    Attributes
    ----------
    fallback:
        Whether the run may be planned again. What a stage leaves in a volume that dies with its pod is then
        brought home at once, so that it can be read wherever the next stage comes to run.
    unbrought:
        Per stage, those before it that ran by another plan, and so did not bring their outputs to where it
        reads them now.
    """

    placement: Placement
    catalog: TierCatalog
    nodes: tuple[str, ...]
    fallback: bool = False
    unbrought: Mapping[str, Collection[str]] = field(default_factory=dict)

    @cached_property
    def records(self) -> str:
        """The folder of the run's records."""
        found: str = next(iter(self.placement.stages.values()))[0]["env"]["QOSFLOW_RECORDS"]
        return found

    @property
    def run(self) -> str:
        """The name of the run's own folder on every tier."""
        return PurePosixPath(self.records).parent.name

    def tier_of(self, name: str) -> StorageTier:
        """Return the tier on which a stage, or the initial data, lies."""
        if name == INITIAL_DATA:
            return self.catalog.tier(self.catalog.home)
        return self.catalog.tier(self.placement.stages[name][0]["tier"])

    def reaches(self, name: str) -> bool:
        """Return whether pods of a later stage find what ``name`` wrote where it was written."""
        tier = self.tier_of(name)
        return tier.shared or (len(self.nodes) == 1 and volume_of(tier).outlives_pods)

    def relay(self, name: str) -> str:
        """Return the folder on the home tier that outputs on local tiers pass through."""
        mount = self.catalog.tier(self.catalog.home).mount
        return str(PurePosixPath(str(mount), self.run, "relay", name))

    def bring_in(self, stage: str, number: int) -> Copies:
        """Return the copies that bring the inputs of ``stage`` to the own tier of the ``number``-th node."""
        copies, row = Copies(), self.placement.stages[stage][0]
        rows = self._copies_in(stage)
        for name, folder in row["inputs"].items():
            if name not in rows and self.reaches(name):
                continue
            copy = rows.get(name) or self._same_place(stage, name, folder)
            if not self.reaches(name):
                copy = self._from_relay(copy, name)
            copies.add(copy, self._record(copy, number))
        return copies

    def bring_out(self, stage: str, number: int) -> Copies:
        """Return the copies that bring what ``stage`` wrote on the node's own tier to where it is needed."""
        copies, several = Copies(), len(self.nodes) > 1
        dies = self.fallback and not volume_of(self.tier_of(stage)).outlives_pods
        relayed: list[str] | None = None if dies else []
        for consumer in self.placement.stage_in:
            if stage not in self.placement.stages[consumer][0]["inputs"]:
                continue
            copy = self._copies_in(consumer).get(stage)
            if self.tier_of(consumer).shared:
                assert copy is not None  # a shared tier is never the local tier that the stage wrote to
                copies.add(copy, self._record(copy, number), may_be_empty=several)
            elif not self.reaches(stage):
                patterns = copy["patterns"] if copy is not None else []
                relayed = [*relayed, *patterns] if patterns and relayed is not None else None
        if relayed is None or relayed:
            copy = {**self._to_relay(stage, stage), "patterns": sorted(set(relayed or []))}
            copies.add(copy, self._record(copy, number, "relay"), may_be_empty=several)
        for copy in self.placement.stage_out[stage]:
            copies.add(copy, self._record(copy, number), may_be_empty=several)
        return copies

    def before(self, stage: str) -> Iterator[tuple[int, Copies]]:
        """Yield what pods of their own copy before ``stage``, by the number of their node.

        These are copies between shared tiers, and those of outputs that lie on the nodes' own tiers and that
        the stages which wrote them have not brought to where ``stage`` reads them.
        """
        left = self.unbrought.get(stage, ())
        for number in range(len(self.nodes)):
            copies = Copies()
            if number == 0:
                self._add_between_shared(self.placement.stage_in[stage], copies)
            for name in self.placement.stages[stage][0]["inputs"]:
                if name in left and not self.tier_of(name).shared:
                    self._add_unbrought(stage, name, number, copies)
            if copies.lines:
                yield number, copies

    def after(self, stage: str) -> Copies:
        """Return what a pod of its own copies after ``stage``."""
        copies = Copies()
        self._add_between_shared(self.placement.stage_out[stage], copies)
        return copies

    def pass_home(self) -> bool:
        """Return whether copies of the run lie on the home tier that nobody needs afterwards."""
        home = self.catalog.home
        staged = any(row["tier"] == home for rows in self.placement.stage_in.values() for row in rows)
        return staged or any(
            not self.reaches(name) and not self.tier_of(stage).shared
            for stage, rows in self.placement.stages.items()
            for name in rows[0]["inputs"]
        )

    def _copies_in(self, stage: str) -> dict[str, Row]:
        return {copy["data_of"]: copy for copy in self.placement.stage_in[stage]}

    def _add_between_shared(self, rows: list[Row], copies: Copies) -> None:
        for copy in rows:
            if self.catalog.tier(copy["source_tier"]).shared and self.catalog.tier(copy["tier"]).shared:
                copies.add(copy, self._record(copy))

    def _add_unbrought(self, stage: str, name: str, number: int, copies: Copies) -> None:
        copy, shared = self._copies_in(stage).get(name), self.tier_of(stage).shared
        if not volume_of(self.tier_of(name)).outlives_pods:
            # It was brought home at once, and pods on local tiers read it there.
            if shared and number == 0:
                assert copy is not None
                copy = self._from_relay(copy, name)
                copies.add(copy, self._record(copy))
        elif shared or not self.reaches(name):
            assert copy is not None
            copy = copy if shared else {**self._to_relay(stage, name), "patterns": copy["patterns"]}
            copies.add(copy, self._record(copy, number, "fetched"), may_be_empty=len(self.nodes) > 1)

    def _from_relay(self, copy: Row, name: str) -> Row:
        return {**copy, "source": self.relay(name), "source_tier": self.catalog.home}

    def _to_relay(self, stage: str, name: str) -> Row:
        return {**self._same_place(stage, name, self.relay(name)), "tier": self.catalog.home}

    def _same_place(self, stage: str, name: str, folder: str) -> Row:
        """Return the copy that a volume makes necessary which another pod on the node does not see."""
        tier = self.tier_of(name).name
        return {
            "stage": stage,
            "data_of": name,
            "source_tier": tier,
            "tier": tier,
            "source": self.placement.stages[name][0]["output"],
            "destination": folder,
            "patterns": [],
        }

    def _record(self, copy: Row, number: int | None = None, kind: str = "") -> str:
        parts = [copy["stage"], copy["data_of"], kind, "" if number is None else str(number)]
        name = "-".join(part for part in parts if part)
        return str(PurePosixPath(self.records, "copies", f"{name}.json"))
