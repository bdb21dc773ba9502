"""Answers in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qosflow_airflow.core.workflow import FINAL_DATA, INITIAL_DATA

CAVEATS = {
    "extrapolated": "Some times lie outside what was measured.",
    "not_observed": "Some declared edges had no I/O in the trace and count as 0 s.",
    "incomplete": "Some measurements are missing and count as 0 s under these rules.",
}
"""What must be said of a configuration in a state that is not simply measured."""

WAITING_SAID = 0.01
"""Share of a makespan from which on waiting for other work of the run is worth a word."""
MAX_SAID = 3
"""Repairs and missing measurements that are said; all of them are in the answer."""

CAPACITY = "capacity"
"""The name under which full tiers are reported among the constraints that stand in the way."""


def explain(answer: Mapping[str, Any]) -> str:
    """Say an answer in a few sentences."""
    said = _explain_infeasible(answer) if answer["status"] == "infeasible" else _explain_feasible(answer)
    return " ".join([said, *answer.get("calibration", {}).get("words", ())])


def configuration_in_words(configuration: Mapping[str, Any]) -> str:
    """Say node count and tiers, as in ``2 nodes, sifting on ssd, the other stages on beegfs``."""
    nodes, tiers = configuration["nodes"], configuration["tiers"]
    words = [f"{nodes} node{'' if nodes == 1 else 's'}"]
    chosen = list(tiers.values())
    usual = max(dict.fromkeys(chosen), key=chosen.count)
    words += [f"{stage} on {tier}" for stage, tier in tiers.items() if tier != usual]
    words.append(f"{'every stage' if len(words) == 1 else 'the other stages'} on {usual}")
    return ", ".join(words)


def measurement_in_words(missing: Mapping[str, Any]) -> str:
    """Say what to measure, as in ``reading by merge on ram at 2 nodes``.

    >>> measurement_in_words({"nodes": 1, "part": "write", "stage": "merge", "tier": "ram"})
    'writing by merge on ram at 1 node'
    """
    at = f"at {missing['nodes']} node{'' if missing['nodes'] == 1 else 's'}"
    if missing["part"] == "copy":
        outside = {INITIAL_DATA: "the initial data", FINAL_DATA: "the final outputs"}
        what = outside.get(missing["producer"], f"what {missing['producer']} writes")
        whom = "" if missing["consumer"] == FINAL_DATA else f" for {missing['consumer']}"
        return f"copying {what}{whom} from {missing['from']} to {missing['to']} {at}"
    verb = {"read": "reading", "write": "writing"}[missing["part"]]
    return f"{verb} by {missing['stage']} on {missing['tier']} {at}"


def _explain_feasible(answer: Mapping[str, Any]) -> str:
    words = configuration_in_words(answer["configuration"])
    in_all = f", {answer['run_s']:.1f} s in all" if answer.get("overhead_s") else ""
    parts = [f"Use {words}: estimated makespan {answer['makespan_s']:.1f} s{in_all}."]
    if answer["request"]["deadline_s"] is not None:
        parts.append(f"That is {answer['slack']['deadline_s']:.1f} s before the deadline.")
    if interval := answer.get("interval"):
        ends = f"{interval['p05_s']:.1f} and {interval['p95_s']:.1f} s"
        parts.append(f"In nine of ten runs the makespan is between {ends}, {interval['words']}.")
    largest, seconds = max(answer["split_s"].items(), key=lambda item: float(item[1]))
    share = seconds / answer["makespan_s"] if answer["makespan_s"] else 0.0
    parts.append(f"Most of it is {largest.replace('_io', ' I/O')} ({share:.0%}).")
    waiting_s = answer.get("waiting_s", 0.0)  # answers that were kept before waiting was counted have none
    if waiting_s > WAITING_SAID * answer["makespan_s"]:
        whom = "others that use the same tiers or processors"
        parts.append(f"In {waiting_s:.1f} s of it stages and copies wait for {whom}.")
    if answer["critical_stages"]:
        parts.append(f"Critical: {', '.join(answer['critical_stages'])}.")
    if answer["flexible_stages"]:
        parts.append(f"Flexible, any tier will do: {', '.join(answer['flexible_stages'])}.")
    if answer["state"] in CAVEATS:
        parts.append(CAVEATS[answer["state"]])
    if answer["capacity"]["state"] == "unknown":
        parts.append("Whether the data fits on its tiers is not known: the trace does not tell its size.")
    if answer.get("traced_tasks"):  # answers that were kept before anchoring have none
        parts.append(f"Reads and writes are anchored on {answer['traced_tasks']} traced tasks.")
    if not answer["compute_known"]:
        parts.append("Compute time is not known and counts as 0 s.")
    return " ".join(parts)


def _explain_infeasible(answer: Mapping[str, Any]) -> str:
    nearest = answer["nearest"]
    if nearest is None:
        if answer["over_capacity"]:
            known = (
                f"Nothing is feasible: {'; '.join(answer['over_capacity'])}. Use larger tiers or more nodes"
            )
            return f"{known}{', or measure more' if answer['missing'] else ''}{_to_measure(answer)}."
        return (
            "Nothing is feasible: no configuration has all the measurements it needs. "
            f"Measure those missing{_to_measure(answer)}."
        )
    asked = answer["request"]
    binding = ", ".join(
        f"capacity ({'; '.join(answer['over_capacity'])})"
        if name == CAPACITY
        else f"{name} = {_value(asked[name])}"
        for name in answer["binding"]
    )
    words = configuration_in_words(nearest["configuration"])
    parts = [
        f"Nothing is feasible. What stands in the way: {binding}.",
        f"Without that the best is {nearest.get('run_s', nearest['makespan_s']):.1f} s, on {words}.",
    ]
    if answer["repairs"]:
        parts.append(f"What would help: {_either([repair['words'] for repair in answer['repairs']])}.")
    if answer["missing"]:
        parts.append(f"What was asked for cannot be judged before it is measured{_to_measure(answer)}.")
    return " ".join(parts)


def _either(ways: Sequence[str]) -> str:
    """Say the first ways out, and how many more there are."""
    listed = "; or ".join(ways[:MAX_SAID])
    more = len(ways) - MAX_SAID
    return f"{listed}; or one of {more} other changes" if more > 0 else listed


def _to_measure(answer: Mapping[str, Any]) -> str:
    missing = [measurement_in_words(found) for found in answer["missing"]]
    more = len(missing) - MAX_SAID
    return f": {', '.join(missing[:MAX_SAID])}{f' and {more} more' if more > 0 else ''}" if missing else ""


def _value(asked: Any) -> str:
    if isinstance(asked, Mapping):
        return ", ".join(f"{stage} on {tier}" for stage, tier in asked.items())
    return ", ".join(map(str, asked)) if isinstance(asked, list) else str(asked)
