"""A run beside the model that foretells it: what cases, and tables of errors, are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property

import numpy as np

from qosflow_airflow.core.charges import Charges
from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.core.makespan import MakespanModel
from qosflow_airflow.core.space import Layouts
from qosflow_airflow.core.transfer import FloatArray
from qosflow_airflow.learn.calibration import Calibration, Residual


@frozen
class ModelledRun:
    """One run of a layout, with the makespan model of its node count.

    ``observed_s`` is what the run took, without what Airflow took for it, and ``stage_s`` the wall clock of
    each stage's own work, without copies; both may lack (NaN, no entry), and do for a run to come. ``load``
    is how busy the platform was, 0 to 1, ``None`` where nobody knows. ``platform`` names where it runs.
    Stages that are ``foretold`` take in ``makespans`` what the run's answer foretold of their number of
    tasks: they are not corrected, and teach no correction.
    """

    run: str
    workflow: str
    platform: str
    makespans: MakespanModel
    layout: tuple[int, ...]
    observed_s: float = math.nan
    stage_s: Mapping[str, float] = field(default_factory=dict)
    load: float | None = None
    foretold: frozenset[str] = frozenset()

    @property
    def layouts(self) -> Layouts:
        """The layout as an array of one row."""
        return np.array([self.layout], dtype=np.int8)

    @cached_property
    def predicted_s(self) -> float:
        """The makespan as the I/O model alone has it, seconds; NaN where a time is not known."""
        return float(self.makespans.makespan_s(self.layouts)[0])

    @cached_property
    def charges(self) -> Charges:
        """What the layout pays, one row a table."""
        return self.makespans.charges(self.layouts)

    @cached_property
    def predicted_stage_s(self) -> FloatArray:
        """Seconds of each stage's own work: reading, computing, writing."""
        charged = self.charges
        return np.asarray(charged.read[0] + np.nan_to_num(charged.compute[0]) + charged.write[0])

    def corrected(self, calibration: Calibration) -> MakespanModel:
        """Return the makespan model after corrections by earlier runs."""
        model = self.makespans
        times = calibration.without(self.foretold).applied(model.times)
        return model if times is model.times else model.with_work(times)

    def calibrated_s(self, calibration: Calibration) -> float:
        """Return the makespan after corrections by earlier runs."""
        return float(self.corrected(calibration).makespan_s(self.layouts)[0])

    def residuals(self) -> list[Residual]:
        """Return what each stage took beyond its estimate, for those that have both."""
        names, tiers = self.makespans.workflow.stage_names, self.makespans.catalog.names
        return [
            Residual(self.run, stage, tiers[tier], math.log(self.stage_s[stage] / predicted_s))
            for stage, tier, predicted_s in zip(
                names, self.layout, self.predicted_stage_s.tolist(), strict=True
            )
            if predicted_s > 0 and self.stage_s.get(stage, 0.0) > 0 and stage not in self.foretold
        ]
