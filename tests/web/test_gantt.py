from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from qosflow_airflow.store.finished_runs import StageRun
from qosflow_airflow.web.gantt import Bar, Gantt, Track, draw_gantt
from qosflow_airflow.web.what_happened import Observed, observed_spans

PLANNED = Track("predicted", "planned", {"split": (Bar("copy", 0.0, 1.0), Bar("work", 1.0, 5.0))})
SEEN = Track("observed", "observed", {"split": (Bar("wait", 0.0, 2.0), Bar("work", 2.0, 8.0)), "merge": ()})


def drawn(deadline_s: float | None = None) -> ElementTree.Element:
    stages = (("split", "ram"), ("merge", "disk"))
    svg = draw_gantt(Gantt("Stages over time", "What is drawn.", stages, (PLANNED, SEEN), deadline_s))
    return ElementTree.fromstring(svg)


def bars(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    found = [one for one in root.findall("rect") if one.find("title") is not None]
    return {one.get("class", ""): (float(one.get("x", 0)), float(one.get("width", 0))) for one in found}


def test_bars_begin_and_end_where_their_seconds_say() -> None:
    found = bars(drawn())
    assert set(found) == {"planned copy", "planned work", "observed wait", "observed work"}
    second = found["planned copy"][1]
    zero = found["planned copy"][0]
    assert found["planned work"] == (zero + second, 4 * second)
    assert found["observed wait"] == (zero, 2 * second)
    assert found["observed work"] == (zero + 2 * second, 6 * second)


def test_a_chart_can_be_read_out() -> None:
    root = drawn()
    assert [child.tag for child in root][:2] == ["title", "desc"]
    assert (root.get("role"), root.get("aria-label")) == ("img", "Stages over time")
    said = [one.findtext("title") for one in root.findall("rect") if one.find("title") is not None]
    assert "split, observed, work: 2 s to 8 s" in said
    assert not root.findall(".//*[@style]")


def test_a_deadline_is_a_line_where_it_is_near_and_a_word_where_it_is_far() -> None:
    near, far = drawn(10.0), drawn(100.0)
    (line,) = [one for one in near.findall("line") if one.get("class") == "deadline"]
    assert line.findtext("title") == "deadline 10 s"
    assert [one for one in far.findall("line") if one.get("class") == "deadline"] == []
    assert "deadline 100 s →" in [one.text for one in far.findall("text")]
    assert bars(far) == bars(drawn())


def test_nothing_at_all_and_next_to_nothing_are_drawn_too() -> None:
    nothing = draw_gantt(Gantt("t", "d", (), ()))
    assert ElementTree.fromstring(nothing).findall("rect") == []
    short = Track("predicted", "planned", {"split": (Bar("work", 0.0, 0.0),)})
    (bar,) = bars(ElementTree.fromstring(draw_gantt(Gantt("t", "d", (("split", ""),), (short,))))).values()
    assert bar[1] > 0


def test_a_run_begins_when_its_first_task_is_ready_or_has_begun() -> None:
    def seen(first_s: float | None, last_s: float | None, ready_s: float | None) -> StageRun:
        return StageRun("", 1, 1, 0, 0, None, None, first_s=first_s, last_s=last_s, ready_s=ready_s)

    stages = {
        "split": seen(1002.0, 1008.0, 1000.5),
        "merge": seen(1010.0, 1011.0, None),
        "early": seen(1009.0, 1010.0, 1009.5),
        "running": seen(None, None, None),
    }
    assert observed_spans(stages) == {
        "split": Observed(1.5, 7.5, 1.5),
        "merge": Observed(9.5, 10.5, None),
        # Its worker's clock is behind that of the task before: it did not wait.
        "early": Observed(8.5, 9.5, 0.0),
    }
    assert observed_spans({}) == {}
