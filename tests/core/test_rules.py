from __future__ import annotations

import pytest

from qosflow_airflow.core.bottlenecks import Bottleneck
from qosflow_airflow.core.boxes import Asked
from qosflow_airflow.core.conditions import Condition, Moves, OnTier
from qosflow_airflow.core.regions import Region, Rule, StageRule
from qosflow_airflow.core.rules import condition_in_words, sentence
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
    way = way_in(rules)
    waits = Bottleneck({"movement": 1.0, "shared_io": 9.0, "local_io": 2.0, "compute": 0.0})
    return Region(0, nodes, 26, low, low, low, median, high, high, high, rules, (way,), waits)


def way_in(rules: dict[str, StageRule], *asked: Asked) -> Rule:
    tiers = {name: stage.tiers for name, stage in rules.items()}
    anywhere = tuple(name for name, stage in rules.items() if stage.anywhere)
    return Rule(tiers, tiers, anywhere, asked, asked, 26)


def test_a_rule_reads_as_a_sentence() -> None:
    found = region(
        individuals=rule("beegfs", role="critical"),
        sifting=rule("ssd", "beegfs"),
        frequency=rule(role="flexible"),
    )
    assert sentence(found, CATALOG, WORKFLOW) == (
        "individuals on beegfs, sifting on beegfs or ssd; the other stages anywhere: "
        "140-340 s (median 270 s) on 10 nodes, mostly for shared tiers; critical: individuals; "
        "flexible: frequency; constrained: sifting."
    )


def test_stages_on_the_same_tiers_are_named_together() -> None:
    found = region(1, individuals=rule("ssd"), sifting=rule("ssd"), overlap=rule("ssd"))
    assert sentence(found, CATALOG, WORKFLOW).startswith(
        "individuals, sifting and overlap on ssd; the other stage anywhere: "
    )
    assert sentence(found, CATALOG, WORKFLOW).endswith(
        "on 1 node, mostly for shared tiers; constrained: individuals, sifting, overlap."
    )


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


def test_ways_into_a_region_are_joined_by_or() -> None:
    found = region(individuals=rule("beegfs"))
    other = way_in({**found.stages, "individuals": rule(), "sifting": rule("ssd", "tmpfs")})
    both = found._replace(rules=(*found.rules, other))
    assert sentence(both, CATALOG, WORKFLOW).startswith(
        "individuals on beegfs; the other stages anywhere; "
        "or sifting on tmpfs or ssd; the other stages anywhere: "
    )


def test_what_data_moves_is_part_of_a_rule() -> None:
    found = region(individuals=rule("beegfs", "ssd"))
    moved = way_in(dict(found.stages), Asked(Moves((("sifting", "overlap"),)), True))
    assert sentence(found._replace(rules=(moved,)), CATALOG, WORKFLOW).startswith(
        "individuals on beegfs or ssd, overlap on another tier than sifting; the other stage anywhere: "
    )


def test_a_condition_that_tiers_say_already_is_not_said() -> None:
    found = region(individuals=rule("beegfs"))
    said_already = Asked(OnTier(("individuals", "sifting"), "beegfs", False), True)
    silent = found.rules[0]._replace(asked=(said_already,))
    assert "or sifting" not in sentence(found._replace(rules=(silent,)), CATALOG, WORKFLOW)


@pytest.mark.parametrize(
    ("condition", "holds", "words"),
    [
        (Moves((("a", "c"),)), True, "c on another tier than a"),
        (Moves((("a", "c"),)), False, "c on the tier of a"),
        (Moves((("a", "c"), ("b", "c"))), True, "c on another tier than each of a and b"),
        (Moves((("a", "c"), ("b", "c"))), False, "c on the tier of a or b"),
        (Moves((("a", "c"), ("b", "c")), False), True, "c on another tier than at least one of a and b"),
        (Moves((("a", "c"), ("b", "c")), False), False, "c on the tier of a and b"),
        (Moves((("a", "b"), ("a", "c")), False), False, "a on the tier of b and c"),
        (OnTier(("a", "b"), "ssd", False), True, "a or b on ssd"),
        (OnTier(("a", "b"), "ssd", False), False, "none of a and b on ssd"),
        (OnTier(("a", "b"), "ssd"), True, "a and b on ssd"),
        (OnTier(("a", "b"), "ssd"), False, "not all of a and b on ssd"),
    ],
)
def test_conditions_in_words(condition: Condition, holds: bool, words: str) -> None:
    assert condition_in_words(Asked(condition, holds)) == words
