from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.tiers import TierCatalog
from qosflow_airflow.exceptions import BundleError, MeasurementError, QoSFlowError, TierError, WorkflowError
from qosflow_airflow.readers.bundle import FILES, Bundle, read_bundle


def names(bundle: Bundle) -> tuple[str, ...]:
    assert bundle.catalog is not None
    return bundle.catalog.names


def test_golden_bundle(survey: Path) -> None:
    bundle = read_bundle(survey)
    assert bundle.path == survey
    assert bundle.workflow.name == "survey"
    assert names(bundle) == ("nfs", "ram", "disk")
    assert bundle.observations is not None
    assert len(bundle.observations.frame) == 5
    assert bundle.transfer_table is not None
    assert len(bundle.transfer_table.frame) == 7
    assert bundle.rates is not None
    assert len(bundle.rates.frame) == 4
    assert bundle.hashes == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in survey.iterdir()
    }


def test_a_template_alone_is_a_bundle(data: Path) -> None:
    bundle = read_bundle(str(data / "survey_stages"))
    assert bundle.workflow.name == "survey_stages"
    assert (bundle.catalog, bundle.observations, bundle.transfer_table, bundle.rates) == (None,) * 4
    assert list(bundle.hashes) == ["stages.json"]


def test_the_folder_names_a_bundle_that_is_read_from_inside(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data / "survey_stages")
    assert read_bundle(".").workflow.name == "survey_stages"


def test_transfer_times_from_elsewhere(survey: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    lines = (survey / "spm.csv").read_text().splitlines()
    other.write_text("\n".join(lines[:3]))
    bundle = read_bundle(survey, transfer_times=other)
    assert bundle.transfer_table is not None
    assert len(bundle.transfer_table.frame) == 2
    assert bundle.hashes["spm.csv"] == hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(BundleError, match=r"nowhere\.csv: cannot be read: No such file"):
        read_bundle(survey, transfer_times=tmp_path / "nowhere.csv")


# tiers


def test_tiers_are_selected_from_the_file(survey: Path) -> None:
    bundle = read_bundle(survey, tiers=["disk", "nfs"])
    assert names(bundle) == ("nfs", "disk")
    assert bundle.catalog is not None
    assert bundle.catalog.node.slots == 2


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        (["nfs", "tape"], "unknown tier 'tape'"),
        (["ram"], "no tier is shared"),
        ([], "the list of tiers is empty"),
    ],
)
def test_tiers_that_cannot_be_selected(survey: Path, tiers: list[str], message: str) -> None:
    with pytest.raises(TierError, match=message):
        read_bundle(survey, tiers=tiers)


@pytest.fixture
def without_tiers(survey: Path) -> Path:
    (survey / "tiers.yaml").unlink()
    (survey / "profile.csv").unlink()
    return survey


def test_tiers_of_the_transfer_times_come_fastest_first(without_tiers: Path) -> None:
    catalog = read_bundle(without_tiers).catalog
    assert catalog is not None
    # stage to stage, ram takes 0.5 s and disk 0.75 s, although disk stands first in the file
    assert (catalog.names, catalog.shared) == (("nfs", "ram", "disk"), (True, False, False))


def test_named_tiers_keep_their_order_after_the_shared_ones(without_tiers: Path) -> None:
    catalog = read_bundle(without_tiers, tiers=["disk", "ram", "nfs"]).catalog
    assert catalog is not None
    assert (catalog.names, catalog.shared) == (("nfs", "disk", "ram"), (True, False, False))
    assert names(read_bundle(without_tiers, tiers=["nfs", "ram"])) == ("nfs", "ram")


def test_the_first_name_is_shared_where_nothing_tells(data: Path) -> None:
    catalog = read_bundle(data / "survey_stages", tiers=["b", "a", "c"]).catalog
    assert catalog is not None
    assert (catalog.names, catalog.shared) == (("b", "a", "c"), (True, False, False))


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        (["nfs", "tape"], "no transfer times for tape.* Use one of nfs, disk, ram"),
        (["disk"], "no tier is shared"),
        (["nfs", "nfs"], "given twice"),
        (["nfs-ram"], "cannot be the name of a tier"),
        ([""], "cannot be the name of a tier"),
        ([], "the list of tiers is empty"),
    ],
)
def test_names_that_make_no_catalog(without_tiers: Path, tiers: list[str], message: str) -> None:
    with pytest.raises(TierError, match=message):
        read_bundle(without_tiers, tiers=tiers)


# files that contradict each other

CONTRADICTIONS = {
    "stage of an observation": (
        ("observations.csv", (",1024,search,", ",1024,serch,")),
        MeasurementError,
        "line 9, column 'taskName': 'serch' is not a stage of workflow 'survey'",
    ),
    "producer of an observation": (
        ("observations.csv", (",2,calibrate,", ",2,calibration,")),
        MeasurementError,
        "line 8, column 'prevTask': 'calibration' is not a stage",
    ),
    "producer": (
        ("spm.csv", ("\ncalibrate,1.0,stack", "\nraw,1.0,stack")),
        MeasurementError,
        "line 4, column 'producer': 'raw' is not a stage",
    ),
    "consumer": (
        ("spm.csv", ("calibrate,1.0,stack", "calibrate,1.0,stage_in-stack")),
        MeasurementError,
        "line 4, column 'consumer': 'stage_in-stack' is not a stage",
    ),
    "pseudo-stage": (
        ("spm.csv", ("stage_in-calibrate", "stage_in-nothing")),
        MeasurementError,
        "line 2, column 'producer': 'stage_in-nothing' is not a stage",
    ),
    "tier": (
        ("tiers.yaml", ("  disk: {shared: false}\n", "")),
        TierError,
        "spm.csv, line 5, column 'producerStorageType': 'disk' is not a tier of the catalog",
    ),
    "tier of a copy": (
        ("spm.csv", (",nfs-ram,", ",tape-ram,")),
        TierError,
        "line 3, column 'producerStorageType': 'tape' is not a tier of the catalog",
    ),
    "profile": (
        ("tiers.yaml", ("profile: tmpfs", "profile: ramfs")),
        TierError,
        "profile.csv: tier 'ram' has the profile 'ramfs', which was not measured",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions(edit, survey: Path, case: str) -> None:
    (name, change), kind, message = CONTRADICTIONS[case]
    edit(name, change)
    with pytest.raises(kind) as caught:
        read_bundle(survey)
    assert message in str(caught.value)
    assert caught.value.cure


def test_rates_of_other_tiers(without_tiers: Path, data: Path) -> None:
    shutil.copy(data / "survey" / "profile.csv", without_tiers)
    assert read_bundle(without_tiers).rates is not None  # nfs is measured; ram and disk are unknown
    (without_tiers / "spm.csv").unlink()
    with pytest.raises(TierError, match=r"none of the tiers a, b was measured"):
        read_bundle(without_tiers, tiers=["a", "b"])


# folders


def test_one_template_please(survey: Path, data: Path) -> None:
    shutil.copy(data / "survey_stages" / "stages.json", survey)
    with pytest.raises(BundleError, match=r"holds both workflow\.yaml and stages\.json"):
        read_bundle(survey)
    (survey / "stages.json").unlink()
    (survey / "workflow.yaml").unlink()
    with pytest.raises(BundleError, match=r"holds neither workflow\.yaml nor stages\.json"):
        read_bundle(survey)


def test_no_folder(survey: Path) -> None:
    for path in (survey / "none", survey / "spm.csv"):
        with pytest.raises(BundleError, match="is not a folder"):
            read_bundle(path)


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("stages.json", "profile.json")])
def test_every_file_reports_itself(survey: Path, name: str) -> None:
    (survey / name).write_bytes(b"")
    with pytest.raises(BundleError) as caught:
        read_bundle(survey)
    assert str(caught.value).startswith(f"{survey / name}: is empty")


def test_a_link_to_nothing_is_not_an_absent_file(survey: Path) -> None:
    (survey / "spm.csv").unlink()
    (survey / "spm.csv").symlink_to("gone.csv")
    with pytest.raises(BundleError, match=r"spm\.csv: cannot be read: No such file"):
        read_bundle(survey)


golden = Path(__file__).parent / "data" / "survey"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([path.name for path in sorted(golden.iterdir())]),
    start=st.floats(0, 1),
    length=st.integers(0, 40),
    junk=st.binary(max_size=4) | st.sampled_from([b"-1", b"nan", b",", b'"', b"\n", b"1e999", b"[", b"{}"]),
)
def test_damage_is_an_error_of_ours_or_harmless(
    survey: Path, name: str, start: float, length: int, junk: bytes
) -> None:
    content = (golden / name).read_bytes()
    at = int(start * len(content))
    (survey / name).write_bytes(content[:at] + junk + content[at + length :])
    try:
        with contextlib.suppress(QoSFlowError):
            assert isinstance(read_bundle(survey).catalog, TierCatalog)
    finally:
        (survey / name).write_bytes(content)


def test_errors_of_a_template_say_where(edit, survey: Path) -> None:
    edit("workflow.yaml", ("[calibrate]", "[calibrat]"))
    with pytest.raises(WorkflowError) as caught:
        read_bundle(survey)
    assert str(caught.value).startswith(f"{survey / 'workflow.yaml'}, line 9, stage 'stack': predecessor")
