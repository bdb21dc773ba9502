from __future__ import annotations

import pytest

from qosflow_airflow.core.regions import Region, StageRule
from qosflow_airflow.core.rules import sentence
from qosflow_airflow.core.stage_roles import Role
from tests.support.instances import chain, platform

CATALOG = platform(shared=("beegfs",), local=("tmpfs", "ssd"))
WORKFLOW = chain(("individuals", 10), ("sifting", 1), ("overlap", 7), ("frequency", 7))


def rule(*tiers: str, role: Role = "constrained") -> StageRule:
    return StageRule(tiers or CATALOG.names, not tiers, role, 1.0, 0.2, tiers or CATALOG.names)


def region(
    nodes: int = 10, times: tuple[float, float, float] = (140.4, 269.8, 340.03), **stages: StageRule
) -> Region:
    low, median, high = times
    rules = {name: stages.get(name, rule()) for name in WORKFLOW.stage_names}
    return Region(0, nodes, 26, low, low, low, median, high, high, high, rules)


def test_a_rule_reads_as_a_sentence() -> None:
    found = region(
        individuals=rule("beegfs", role="critical"),
        sifting=rule("ssd", "beegfs"),
        frequency=rule(role="flexible"),
    )
    assert sentence(found, CATALOG, WORKFLOW) == (
        "individuals on beegfs, sifting on beegfs or ssd; the other stages anywhere: "
        "140-340 s (median 270 s) on 10 nodes; critical: individuals; flexible: frequency."
    )


def test_stages_on_the_same_tiers_are_named_together() -> None:
    found = region(1, individuals=rule("ssd"), sifting=rule("ssd"), overlap=rule("ssd"))
    assert sentence(found, CATALOG, WORKFLOW).startswith(
        "individuals, sifting and overlap on ssd; the other stage anywhere: "
    )
    assert sentence(found, CATALOG, WORKFLOW).endswith("on 1 node.")


def test_one_region_holds_everything() -> None:
    assert sentence(region(), CATALOG, WORKFLOW).startswith("every stage anywhere: 140-340 s")


def test_every_stage_bound() -> None:
    found = region(**{name: rule("beegfs") for name in WORKFLOW.stage_names})
    assert sentence(found, CATALOG, WORKFLOW).startswith(
        "individuals, sifting, overlap and frequency on beegfs: 140-340 s"
    )


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((4.978, 5.346, 5.714), "4.98-5.71 s (median 5.35 s)"),
        ((12.04, 15.0, 19.96), "12-20 s (median 15 s)"),
        ((0.0123, 0.02, 0.5), "0.012-0.5 s (median 0.02 s)"),
        ((1204.3, 54321.0, 1e6), "1,204-1,000,000 s (median 54,321 s)"),
        ((0.0, 0.0, 0.0), "0 s"),
        ((495.1, 495.2, 495.3), "495 s"),
    ],
)
def test_times_have_the_digits_that_matter(times: tuple[float, float, float], words: str) -> None:
    assert f": {words} on 10 nodes" in sentence(region(times=times), CATALOG, WORKFLOW)
