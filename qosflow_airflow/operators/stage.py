"""One stage of a recommendation as tasks: stage in, run (mapped), stage out.

:func:`stage_group` builds a stage for any classic operator. Who makes the copies, and so where the rows of
the tasks come from, is a :class:`Copies`: :class:`~qosflow_airflow.operators.copy.LocalCopies` for processes
on one machine, :class:`~qosflow_airflow.operators.pods.PodCopies` for pods.

:class:`QoSStageOperator` only returns the rows of a stage. Airflow maps over what a task returns and over
nothing else, while a recommendation has rows for every stage; so each stage that is mapped over has a task
that returns its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from airflow.sdk import BaseOperator, TaskGroup
from airflow.sdk.definitions.template import literal

from qosflow_airflow.core.frozen import frozen
from qosflow_airflow.exceptions import RequestError
from qosflow_airflow.operators.run_rows import Part, Rows, pull_rows

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import MappedOperator


class QoSStageOperator(BaseOperator):
    """Returns the rows of a part of a stage, as the recommending task pushed them.

    :param recommend_task_id: the task that recommended.
    :param stage: the stage.
    :param part: ``stage`` for its tasks, ``stage_in`` or ``stage_out`` for the copies before or after them.
    """

    ui_color = "#eef3f7"

    def __init__(self, *, recommend_task_id: str, stage: str, part: Part = "stage", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recommend_task_id = recommend_task_id
        self.stage = stage
        self.part = part

    def execute(self, context: Context) -> Rows:
        """Return the rows; Airflow maps over them."""
        return pull_rows(context, self.recommend_task_id, self.part, self.stage)


def bash_kwargs(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a stage as what ``BashOperator.expand_kwargs`` takes: the ``QOSFLOW_*`` variables.

    The values are taken as they are: Airflow would render a name that looks like a template, and take one
    that ends in ``.sh`` for a file to read.
    """
    return {"env": literal(dict(row["env"]))}


def python_kwargs(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as what ``PythonOperator.expand_kwargs`` takes: the callable's argument ``row``."""
    return {"op_kwargs": literal({"row": dict(row)})}


class Fit(NamedTuple):
    """How rows become tasks of an operator: what it takes of a row, and the template of a task's label."""

    kwargs: Callable[[Mapping[str, Any]], dict[str, Any]]
    label: str


FITS = {
    "env": Fit(bash_kwargs, "{{ task.env['QOSFLOW_LABEL'] }}"),
    "op_kwargs": Fit(python_kwargs, "{{ task.op_kwargs['row']['env']['QOSFLOW_LABEL'] }}"),
}
"""By the templated parameter that takes the row."""


def fit_of(operator: type[BaseOperator]) -> Fit:
    """Return how rows fit an operator that takes ``env`` or ``op_kwargs``.

    Raises
    ------
    RequestError
        When it takes neither.
    """
    for name, fit in FITS.items():
        if name in operator.template_fields:
            return fit
    raise RequestError(
        f"{operator.__name__} takes neither {' nor '.join(FITS)}, so that it is not known how it takes a row",
        cure="Give `fit=Fit(function of a row that returns its parameters, template of its label)`.",
    )


class Copies(Protocol):
    """Who brings inputs to a stage's tier and final outputs home, and gives the rows of its tasks."""

    @property
    def planned_by(self) -> BaseOperator:
        """The task that must run before any stage."""

    def stage_in(self, stage: str) -> BaseOperator:
        """Return a task that brings inputs in, where needed, and then returns the rows to map over."""

    def stage_out(self, stage: str) -> BaseOperator:
        """Return a task that brings final outputs home, or is skipped where they are there."""

    def fit(self, operator: type[BaseOperator]) -> Fit:
        """Return how the rows fit an operator."""

    def partial(self, partial: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of the stage's tasks that do not come from rows."""


@frozen
class StageGroup:
    """The tasks of a stage. ``stage_out`` is ``None`` for a stage whose outputs are not kept."""

    stage: str
    group: TaskGroup
    stage_in: BaseOperator
    run: MappedOperator
    stage_out: BaseOperator | None

    @property
    def ends(self) -> list[Any]:
        """What must have ended before the stage's outputs are where they belong.

        ``stage_out`` is skipped where they are there already: give what comes after
        ``trigger_rule="none_failed"``.
        """
        return [self.run] if self.stage_out is None else [self.run, self.stage_out]


def stage_group(
    stage: str,
    operator: type[BaseOperator],
    copies: Copies,
    *,
    after: Iterable[StageGroup | BaseOperator] = (),
    final: bool = False,
    group_id: str | None = None,
    fit: Fit | None = None,
    **partial: Any,
) -> StageGroup:
    """Build the tasks of one stage: ``stage_in``, ``run`` (mapped) and, for kept outputs, ``stage_out``.

    ``after`` are the stages whose outputs this one reads, and any other tasks that it waits for. ``partial``
    are the parameters that all tasks of the stage share, as in ``operator.partial``; what differs from task
    to task comes from the rows of the recommendation. The group's name is the stage's.

    Raises
    ------
    RequestError
        When rows do not fit the operator.
    """
    chosen = fit or copies.fit(operator)
    shared = {"map_index_template": chosen.label, **copies.partial(partial)}
    with TaskGroup(group_id or stage) as group:
        stage_in = copies.stage_in(stage)
        rows = stage_in.output.map(chosen.kwargs)
        run = operator.partial(task_id="run", **shared).expand_kwargs(rows)
        stage_out = copies.stage_out(stage) if final else None
    copies.planned_by.set_downstream(stage_in)
    for before in after:
        (before.run if isinstance(before, StageGroup) else before).set_downstream(stage_in)
    if stage_out is not None:
        run.set_downstream(stage_out)
    return StageGroup(stage, group, stage_in, run, stage_out)
