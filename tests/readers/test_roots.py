from __future__ import annotations

import os
from pathlib import Path

import pytest

from qosflow_airflow.exceptions import BundleError
from qosflow_airflow.readers import files
from qosflow_airflow.readers.bundle import check_inside, read_bundle
from qosflow_airflow.readers.files import read_file

OUTSIDE = r"lies outside the folders that bundles are read from.*\[qosflow\] bundle_roots"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret" / "spm.csv"
    path.parent.mkdir()
    path.write_text("secret")
    return path


@pytest.fixture
def root(survey: Path) -> Path:
    """The folder of the golden bundle, as the only root: its parent holds the secret."""
    (survey.parent / "root").mkdir()
    survey.rename(survey.parent / "root" / "survey")
    return survey.parent / "root"


def test_below_a_root(root: Path) -> None:
    assert check_inside(root / "survey", ["/nowhere", root]) == (root / "survey").resolve()
    assert check_inside(root / "survey" / "spm.csv", [root]) == (root / "survey" / "spm.csv").resolve()
    assert read_bundle(root / "survey", roots=[root]).workflow.name == "survey"


def test_a_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert check_inside(tmp_path / "link" / "survey", [tmp_path / "link"])
    assert check_inside(root / "survey", [tmp_path / "link"])


def test_outside(root: Path, secret: Path) -> None:
    for path in (secret, secret.parent, root / ".." / "secret", root.parent, Path("/")):
        with pytest.raises(BundleError, match=OUTSIDE):
            check_inside(path, [root])
    with pytest.raises(BundleError, match=OUTSIDE):
        check_inside(root.with_name("root2"), [root])


def test_what_does_not_exist_outside_looks_like_what_does(root: Path, secret: Path) -> None:
    messages = set()
    for path in (secret, secret.with_name("none.csv")):
        with pytest.raises(BundleError) as caught:
            check_inside(path, [root])
        messages.add(str(caught.value).replace(str(path), ""))
    assert len(messages) == 1


def test_a_link_out_of_the_roots(root: Path, secret: Path) -> None:
    (root / "way_out").symlink_to(secret.parent)
    with pytest.raises(BundleError, match=OUTSIDE):
        check_inside(root / "way_out", [root])


@pytest.mark.parametrize("name", ["spm.csv", "extra"])
def test_a_link_in_a_bundle_out_of_the_roots(root: Path, secret: Path, name: str) -> None:
    (root / "survey" / name).unlink(missing_ok=True)
    (root / "survey" / name).symlink_to(secret)
    with pytest.raises(BundleError, match=OUTSIDE):
        check_inside(root / "survey", [root])
    with pytest.raises(BundleError, match=OUTSIDE):
        read_bundle(root / "survey", roots=[root])


def test_a_link_in_a_bundle_to_another_place_below_the_roots(root: Path) -> None:
    (root / "survey" / "spm.csv").rename(root / "shared.csv")
    (root / "survey" / "spm.csv").symlink_to(root / "shared.csv")
    assert read_bundle(root / "survey", roots=[root]).transfer_table is not None


def test_transfer_times_out_of_the_roots(root: Path, secret: Path) -> None:
    with pytest.raises(BundleError, match=OUTSIDE):
        read_bundle(root / "survey", transfer_times=secret, roots=[root])


def test_a_loop_of_links(root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(BundleError, match=r"cannot be (resolved|read)"):
        check_inside(root / "loop", [root])


def test_no_roots(root: Path) -> None:
    with pytest.raises(BundleError, match=r"no folder is configured.*\[qosflow\] bundle_roots"):
        check_inside(root, [])


def test_nothing_there(root: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        check_inside(root / "none", [root])
    (root / "survey" / "gone").symlink_to(root / "none")
    with pytest.raises(BundleError, match="gone: cannot be read: No such file"):
        check_inside(root / "survey", [root])


def test_a_nul_character(root: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot be (resolved|read)"):
        check_inside(f"{root}/\0", [root])


def test_special_files(root: Path) -> None:
    os.mkfifo(root / "survey" / "pipe")
    with pytest.raises(BundleError, match="pipe: is neither a file nor a folder"):
        check_inside(root / "survey", [root])
    with pytest.raises(BundleError, match="is neither a file nor a folder"):
        check_inside("/dev/null", ["/dev"])


@pytest.mark.parametrize("name", ["workflow.yaml", "spm.csv"])
def test_a_pipe_is_not_waited_for(root: Path, name: str) -> None:
    (root / "survey" / name).unlink()
    os.mkfifo(root / "survey" / name)
    with pytest.raises(BundleError, match="is not a regular file"):
        read_bundle(root / "survey")


def test_files_that_cannot_be_read(root: Path) -> None:
    for path in (root / "survey", Path("/dev/zero")):
        with pytest.raises(BundleError, match="is not a regular file"):
            read_file(path)
    with pytest.raises(BundleError, match=r"none\.csv: cannot be read: No such file"):
        read_file(root / "none.csv")
    with pytest.raises(BundleError, match=r"cannot be read: (open: )?embedded null"):
        read_file("a\0b")
    (root / "seven").write_text("seven77")
    with pytest.raises(BundleError, match="is 7 bytes, more than the 6 that are read"):
        read_file(root / "seven", limit_bytes=6)
    (root / "link").symlink_to(root / "seven")
    assert read_file(root / "link").data == b"seven77"
    with pytest.raises(BundleError, match="link: cannot be read: Too many levels of symbolic links"):
        read_file(root / "link", follow_link=False)


def test_a_gibibyte_is_the_limit(root: Path) -> None:
    with (root / "survey" / "spm.csv").open("r+b") as file:
        file.truncate(files.MAX_FILE_BYTES + 1)  # sparse: takes no space
    with pytest.raises(BundleError, match=r"spm\.csv: is 1,073,741,825 bytes, more than the 1,073,741,824"):
        read_bundle(root / "survey")
