"""A model version: everything that is needed to answer a request, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.makespan_rules import MakespanRules, rules_named
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.core.transfer import StageTimes
from qosflow_airflow.core.workflow import Workflow
from qosflow_airflow.exceptions import QoSFlowError

if TYPE_CHECKING:
    from qosflow_airflow.core.regions import RegionSet

FORMAT = 1
"""Version of the JSON layout; a reader refuses what it does not know."""


@frozen
class ScaleModel:
    """Stage times, regions and held-out quality at one node count."""

    nodes: int
    times: StageTimes
    regions: RegionSet | None = None
    quality: Mapping[str, Any] = field(default_factory=dict)


@frozen
class Model:
    """A workflow's scales under one rule set.

    ``inputs`` maps each input file to its SHA-256; ``options`` are those of the build.
    """

    workflow: Workflow
    catalog: TierCatalog
    rules: MakespanRules
    scales: tuple[ScaleModel, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def space(self) -> ConfigurationSpace:
        """The layouts that the rules allow."""
        return ConfigurationSpace(self.workflow, self.catalog, self.rules)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The node counts of the scales, ascending."""
        return tuple(scale.nodes for scale in self.scales)

    @property
    def compute_known(self) -> bool:
        """Whether compute time is known for every stage at every scale."""
        return all(scale.times.compute_known for scale in self.scales)

    def scale(self, nodes: int) -> ScaleModel:
        """Return the scale of ``nodes`` nodes."""
        for scale in self.scales:
            if scale.nodes == nodes:
                return scale
        known = ", ".join(map(str, self.nodes))
        raise QoSFlowError(f"the model has no scale of {nodes} nodes", cure=f"Use one of {known}.")

    def makespans(self, nodes: int) -> MakespanModel:
        """Return the makespan model at ``nodes``, the same one each time: its tables are worth keeping."""
        if nodes not in self._makespans:
            times = self.scale(nodes).times
            self._makespans[nodes] = MakespanModel(self.workflow, self.catalog, times, self.rules)
        return self._makespans[nodes]

    @cached_property
    def _makespans(self) -> dict[int, MakespanModel]:
        return {}

    def blocks(self) -> Iterator[tuple[MakespanModel, Layouts]]:
        """Yield every configuration, or a sample of too many: valid layouts by blocks, at each node count."""
        for nodes in self.nodes:
            makespans = self.makespans(nodes)
            for layouts in self.space.representatives():
                yield makespans, layouts

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON without regions and quality, which are kept apart."""
        return {
            "format": FORMAT,
            "workflow": self.workflow.to_json(),
            "tiers": self.catalog.to_json(),
            "rules": self.rules.name,
            "inputs": dict(self.inputs),
            "options": dict(self.options),
            "scales": {str(scale.nodes): scale.times.to_json() for scale in self.scales},
        }

    def regions_to_json(self) -> dict[str, Any]:
        """Return regions and quality as plain JSON, per scale, and how bottlenecks shift over the scales."""
        from qosflow_airflow.core.bottlenecks import shift

        fitted = [(scale.nodes, scale.regions) for scale in self.scales if scale.regions]
        return {
            "format": FORMAT,
            "bottleneck_shift": {
                "space": shift((nodes, found.bottleneck) for nodes, found in fitted),
                "best_region": shift((nodes, found.regions[0].bottleneck) for nodes, found in fitted),
            },
            "scales": {
                str(scale.nodes): {
                    **(scale.regions.to_json() if scale.regions else {"regions": []}),
                    "quality": dict(scale.quality),
                }
                for scale in self.scales
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], regions: Mapping[str, Any] | None = None) -> Model:
        """Build a model from what :meth:`to_json` and :meth:`regions_to_json` returned."""
        if value.get("format") != FORMAT:
            raise QoSFlowError(
                f"model format {value.get('format')!r} is not {FORMAT}", cure="Build the model again."
            )
        by_scale = (regions or {}).get("scales", {})
        workflow = Workflow.from_json(value["workflow"])
        catalog = TierCatalog.from_json(value["tiers"])
        scales = tuple(
            ScaleModel(
                int(nodes),
                StageTimes.from_json(times),
                _regions_from_json(by_scale.get(nodes, {})),
                by_scale.get(nodes, {}).get("quality", {}),
            )
            for nodes, times in sorted(value["scales"].items(), key=lambda item: int(item[0]))
        )
        inputs, options = dict(value["inputs"]), dict(value["options"])
        return cls(workflow, catalog, rules_named(value["rules"]), scales, inputs, options)


def _regions_from_json(value: Mapping[str, Any]) -> RegionSet | None:
    if not value.get("regions"):
        return None
    # Imported here: not every model has regions, and not everybody reads them.
    from qosflow_airflow.core.regions import RegionSet

    return RegionSet.from_json(value)
