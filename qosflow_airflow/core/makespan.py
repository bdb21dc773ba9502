"""Makespans of many configurations at once, with their cost split and critical path.

Everything is a gather from the tables of :class:`~qosflow_airflow.core.transfer.StageTimes` and a maximum;
where work of one run shares devices (:mod:`~qosflow_airflow.core.contention`), what is gathered is stretched.
The two rule sets differ in which copies are charged (:mod:`~qosflow_airflow.core.charges`) and in how the
phases are chained (:mod:`~qosflow_airflow.core.schedule`), and both are data.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Self

from qosflow_airflow.core.capacity import CapacityCheck
from qosflow_airflow.core.charges import ChargedTimes, Charges
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.schedule import Schedule, level_barrier, longest_path
from qosflow_airflow.core.space import ConfigurationSpace, Layouts
from qosflow_airflow.core.stage_costs import StageCosts
from qosflow_airflow.core.transfer import FloatArray, StageTimes


@frozen
class MakespanModel(ChargedTimes):
    """The makespan of any configuration at one node count, under one rule set."""

    @property
    def space(self) -> ConfigurationSpace:
        """The layouts that the rules allow."""
        return ConfigurationSpace(self.workflow, self.catalog, self.rules)

    def with_work(self, times: StageTimes) -> Self:
        """Return the same with other times of stages; copies must take as long as before."""
        found = replace(self, times=times)
        found.__dict__["legs"] = self.legs  # the larger part of what would be summed up again
        return found

    @cached_property
    def costs(self) -> StageCosts:
        """What each choice of tiers costs."""
        return StageCosts.of(self)

    @cached_property
    def capacity(self) -> CapacityCheck:
        """Whether configurations fit on their tiers."""
        return CapacityCheck(self.workflow, self.catalog, self.times, self.rules)

    def makespan_s(self, layouts: Layouts) -> FloatArray:
        """Return the makespan of each layout in seconds, NaN where a needed time is unknown."""
        of = self.costs.level_sum_s if self.rules.level_barrier else self.costs.longest_path_s
        return of(layouts)

    def least_s(self, layouts: Layouts) -> FloatArray:
        """Return what each makespan is at least, to the last bit: it were, if work waited for no other."""
        if self.costs.contention is None:
            return self.makespan_s(layouts)
        return replace(self.costs, contention=None).longest_path_s(layouts)

    def charges(self, layouts: Layouts) -> Charges:
        """Return what each layout pays, with what its work waits for other work of the same run."""
        return super().charges(layouts).stretched(self.costs.stretch(layouts))

    def schedule(self, layouts: Layouts) -> Schedule:
        """Return makespan, provenance, split and critical path of each layout."""
        if self.rules.level_barrier:
            return level_barrier(self, layouts, self.charges(layouts), self.makespan_s(layouts))
        stretch = self.costs.stretch(layouts)
        charges = super().charges(layouts).stretched(stretch)
        return longest_path(self, layouts, charges, self.costs.longest_path_s(layouts, stretch))
