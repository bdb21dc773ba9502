from __future__ import annotations

from pathlib import Path

import pytest

from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.exceptions import BundleError, TierError
from qosflow_airflow.readers.tiers_yaml import read_tiers_yaml

GIB = 2**30


def test_golden_file(survey: Path) -> None:
    assert read_tiers_yaml(survey / "tiers.yaml") == TierCatalog(
        (
            StorageTier("nfs", True, str(survey / "storage" / "nfs"), 500 * GIB, 0.0001),
            StorageTier("ram", False, "/dev/shm/survey", GIB // 2, None, memory=True, profile="tmpfs"),
            StorageTier("disk", False),
        ),
        "nfs",
        NodePool(0.25, 24 * GIB, 2),
    )


def test_a_relative_path_to_the_file_gives_absolute_mounts(
    survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(survey)
    assert read_tiers_yaml("tiers.yaml").tiers[0].mount == str(survey / "storage" / "nfs")


def read(tmp_path: Path, text: str) -> TierCatalog:
    path = tmp_path / "tiers.yaml"
    path.write_text(text)
    return read_tiers_yaml(path)


def test_home_is_the_first_shared_tier(tmp_path: Path) -> None:
    catalog = read(tmp_path, "tiers:\n  a: {shared: true}\n  b: {shared: true, capacity_gib: 1e3}\n")
    assert catalog.home == "a"
    assert catalog.tiers[1].capacity_bytes == 1000 * GIB
    assert catalog.node == NodePool()


WRONG = {
    "unknown key": ("a: {shared: true, size_gib: 2}", 3, "`size_gib` is not a known key", "capacity_gib"),
    "no shared": ("a: {mount: /x}", 3, "`a` lacks shared", "Add it"),
    "text as shared": ("a: {shared: 'no'}", 3, "`shared` is 'no'", "Write true or false"),
    "no capacity": ("a: {shared: true, capacity_gib: 0}", 3, "`capacity_gib` is 0", "Give a number from"),
    "negative capacity": ("a: {shared: true, capacity_gib: -1}", 3, "`capacity_gib` is -1", "Give a number"),
    "infinite capacity": ("a: {shared: true, capacity_gib: .inf}", 3, "`capacity_gib` is inf", "number"),
    "NaN price": ("a: {shared: true, price_per_gib_hour: .nan}", 3, "`price_per_gib_hour` is nan", ""),
    "negative price": ("a: {shared: true, price_per_gib_hour: -0.1}", 3, "is -0.1", "number from 0"),
    "number as mount": ("a: {shared: true, mount: 3}", 3, "`mount` is 3, not text", ""),
    "hyphen": ("a-b: {shared: true}", 3, "'a-b' cannot be the name of a tier", "a hyphen separates"),
    "duplicate": ("a: {shared: true}\n  a: {shared: false}", 4, "`a` is declared twice, first on line 3", ""),
    "none shared": ("a: {shared: false}", 2, "no tier is shared", "shared: true"),
    "local first": (
        "a: {shared: false}\n  b: {shared: true}",
        2,
        "a local tier stands before",
        "shared tiers first",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tiers(tmp_path: Path, case: str) -> None:
    lines, line, message, cure = WRONG[case]
    with pytest.raises(TierError) as caught:
        read(tmp_path, f"# tiers\ntiers:\n  {lines}\n")
    assert message in str(caught.value)
    assert cure in str(caught.value)
    assert (caught.value.source, caught.value.line) == (str(tmp_path / "tiers.yaml"), line)


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        ("tier: {}", 2, "`tier` is not a known key Use one of tiers, home, node"),
        ("home: b", 2, "home 'b' is not a shared tier"),
        ("home: [a]", 2, "`home` is a list, not text"),
        ("node: {memory: 3}", 2, "`memory` is not a known key Use one of price_per_hour, memory_gib, slots"),
        ("node: {slots: 0}", 2, "`slots` is 0"),
        ("node: 3", 2, "`node` is 3, not a mapping"),
    ],
)
def test_wrong_top(tmp_path: Path, lines: str, line: int, message: str) -> None:
    with pytest.raises(TierError) as caught:
        read(tmp_path, f"tiers: {{a: {{shared: true}}}}\n{lines}\n")
    assert message in str(caught.value).replace("key. ", "key ")
    assert caught.value.line == line


def test_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tiers\.yaml, line 1: is not valid YAML"):
        read(tmp_path, "tiers: {")
    with pytest.raises(TierError, match="lacks tiers"):
        read(tmp_path, "home: a")
