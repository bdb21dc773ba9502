"""From what the store holds of finished runs to cases, and to those most like a configuration.

Nothing here needs more than numpy. A platform is known by the names of its tiers: the store knows no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qosflow_airflow.core.model import Model
from qosflow_airflow.past_runs import PastRuns

if TYPE_CHECKING:
    from qosflow_airflow.learn.case_correction import Citation
    from qosflow_airflow.learn.cases import CaseSettings
    from qosflow_airflow.learn.finished_run import FinishedRun
    from qosflow_airflow.learn.modelled_run import ModelledRun
    from qosflow_airflow.store.load import Load

MAX_WORKFLOWS = 10
"""So many workflows are looked at for an answer, by name, besides the one that is asked for."""
MAX_RUNS = 20
"""So many of the newest runs of each: an answer must not wait for them."""


class KnownRuns(NamedTuple):
    """Runs beside the newest model of their workflow, oldest first; ``left_out`` says why others are not."""

    runs: tuple[ModelledRun, ...]
    left_out: Mapping[str, str]


def known_runs(
    past: PastRuns,
    workflow: str,
    limit: int = MAX_RUNS,
    workflows: int = MAX_WORKFLOWS,
    load_source: str | None = None,
) -> KnownRuns:
    """Return the ``limit`` newest finished runs of a workflow and of as many others as ``workflows``.

    Each is held against the newest model of its workflow. Loads are those that ``load_source`` told.
    """
    others = [name for name in past.workflows if name != workflow]
    dated: list[tuple[float, ModelledRun]] = []
    left_out: dict[str, str] = {}
    for name in [workflow, *others[:workflows]]:
        records = [one for one in past.runs(name, limit) if one.configuration is not None]
        model = past.model(name) if records else None
        if model is None:
            continue
        # Imported here, as below: where nothing has run, an answer does without.
        from qosflow_airflow.learn.finished_run import modelled_run
        from qosflow_airflow.run_records import run_beside

        for record in records:
            found = run_beside(record, model)
            if found.load_source != load_source:
                found = found._replace(load=None)
            reason = _unusable(model, found)
            if reason is None:
                dated.append((found.at_s, modelled_run(model, found.run, found.nodes, found.tiers, found)))
            else:
                left_out[found.run] = reason
    dated.sort(key=lambda pair: pair[0])
    return KnownRuns(tuple(run for _, run in dated), left_out)


def similar_runs(
    known: KnownRuns,
    model: Model,
    configuration: Mapping[str, Any],
    calibrated_runs: int = 0,
    settings: CaseSettings | None = None,
    load: Load | None = None,
    foretold_s: Mapping[str, float] | None = None,
) -> Citation:
    """Return what finished runs like ``configuration`` say; it is plain JSON with ``nodes`` and ``tiers``.

    ``calibrated_runs`` is how many runs of its own have corrected the prediction already, ``load`` how busy
    the place is now, ``foretold_s`` the seconds of stages in other numbers of tasks than the model's.
    """
    from qosflow_airflow.learn.case_correction import cite
    from qosflow_airflow.learn.case_features import run_features
    from qosflow_airflow.learn.cases import CaseBase, run_case
    from qosflow_airflow.learn.finished_run import modelled_run

    base = CaseBase(map(run_case, known.runs), settings)
    now = None if load is None else load.value
    nodes, tiers = configuration["nodes"], configuration["tiers"]
    asked = modelled_run(model, "asked", nodes, tiers, load=now, foretold_s=foretold_s)
    return cite(base, run_features(asked), asked.platform, calibrated_runs=calibrated_runs)


def citing(
    known: KnownRuns,
    model: Model,
    answer: Mapping[str, Any],
    calibrated_runs: int = 0,
    load: Load | None = None,
) -> dict[str, Any] | None:
    """Return what ``cases`` of an answer holds, plain JSON; ``None`` where nothing similar has run.

    ``makespan_s`` is the makespan corrected by similar runs, ``None`` where they are only cited. The choice
    itself, and whether it keeps a deadline, stay those of the model and its own runs.
    """
    described = answer if "configuration" in answer else answer.get("nearest")
    if not described or not known.runs:
        return None
    foretold_s = _foretold_s(answer, described)
    configuration = described["configuration"]
    citation = similar_runs(known, model, configuration, calibrated_runs, load=load, foretold_s=foretold_s)
    if not citation.neighbourhood.found:
        return None
    cases = {**citation.to_json(), "makespan_s": None}
    if citation.used and described["makespan_s"] is not None:
        corrected_s = described["makespan_s"] * citation.factor
        cases |= {
            "makespan_s": corrected_s,
            "words": f"{citation.words} By them it takes {corrected_s:.1f} s.",
        }
    return cases


def _foretold_s(answer: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of stages for which an answer has chosen another number of tasks."""
    chunks = answer.get("chunks") or {}
    changed = [stage for stage, one in chunks.items() if one["chunks"] != one["was"]]
    parts = {stage: described["stage_s"][stage] for stage in changed}
    return {stage: one["read_s"] + one["compute_s"] + one["write_s"] for stage, one in parts.items()}


def with_cases(answer: Mapping[str, Any], cases: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an answer that cites ``cases``, in its explanation too; the same one without any."""
    if cases is None:
        return dict(answer)
    return {**answer, "cases": dict(cases), "explanation": f"{answer['explanation']} {cases['words']}"}


def _unusable(model: Model, run: FinishedRun) -> str | None:
    """Return why a run cannot be held against a model, ``None`` where it can."""
    if run.left_out:
        return "; ".join(run.left_out)
    if run.nodes not in model.nodes:
        return f"{run.nodes} nodes, which the model does not know"
    if not all(run.tiers.get(stage) in model.catalog.index for stage in model.workflow.stage_names):
        return "a configuration that the model does not know"
    return None
