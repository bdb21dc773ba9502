from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what setup.sh reads before there is an environment."""
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copy(ROOT / "setup.sh", folder)
    shutil.copy(ROOT / "setup.py", folder)
    shutil.copytree(ROOT / "constraints", folder / "constraints")
    return folder


def setup(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(folder / "setup.sh"), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def make_python(folder: Path, name: str, says: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)


def test_help_names_every_command_and_variable() -> None:
    text = setup(ROOT, "help").stdout
    for word in ("demo", "test", "up", "down", "status", "airflow", "qosflow", "lock"):
        assert f"\n  {word} " in text
    script = "".join(path.read_text() for path in [ROOT / "setup.sh", *(ROOT / "scripts").glob("*.py")])
    used = {word for word in ("QOSFLOW_HOME", "QOSFLOW_POSTGRES_URL", "QOSFLOW_PYTHON") if word in script}
    assert used
    assert all(word in text for word in used)


def test_an_unknown_command_is_refused_with_the_list() -> None:
    result = setup(ROOT, "start")
    assert result.returncode == 1
    assert "There is no command 'start'" in result.stderr
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    ("named", "said"), [("", "KUBECONFIG is not set"), ("/nowhere", "/nowhere cannot be read")]
)
def test_without_a_cluster_the_tests_of_one_say_so(named: str, said: str, clone: Path) -> None:
    result = setup(clone, "test-kubernetes", KUBECONFIG=named)
    assert result.returncode == 1
    assert said in result.stderr
    assert not (clone / ".venv").exists()


def test_without_a_suitable_python_the_cure_names_how_to_get_one(clone: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in ("bash", "cat", "cksum", "dirname", "env", "sh"):
        (programs / tool).symlink_to(shutil.which(tool) or "")
    make_python(programs, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    make_python(programs, "python3", "exit 1  # as 3.10 would answer the question whether it is suitable")
    result = setup(clone, "status", PATH=str(programs))
    assert result.returncode == 1
    assert "No Python 3.11, 3.12 or 3.13" in result.stderr
    assert "apt-get install" in result.stderr
    assert not (clone / ".venv").exists()


def test_a_chosen_python_that_does_not_fit_is_named(clone: Path, tmp_path: Path) -> None:
    make_python(tmp_path, "python2", "exit 1")
    result = setup(clone, "up", QOSFLOW_PYTHON=str(tmp_path / "python2"))
    assert result.returncode == 1
    assert f"QOSFLOW_PYTHON={tmp_path / 'python2'}" in result.stderr


def test_a_broken_environment_is_not_silently_replaced(clone: Path) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    make_python(clone / ".venv" / "bin", "python", "exit 1")
    result = setup(clone, "status")
    assert result.returncode == 1
    assert "Remove that folder and try again" in result.stderr
    assert (clone / ".venv" / "bin" / "python").exists()


def test_a_package_that_needs_a_compiler_is_said_so(clone: Path) -> None:
    # An environment whose pip ends as it does when a package must be built and there is no compiler.
    environment = clone / ".venv" / "bin"
    environment.mkdir(parents=True)
    make_python(
        environment,
        "python",
        'case "$*" in *"sys.version_info)"*|*"%d.%d"*) echo 3.11 ;; *ensurepip,*|*--version*) exit 0 ;;\n'
        "  *) echo \"error: command 'gcc' failed: No such file or directory\"; exit 1 ;; esac",
    )
    result = setup(clone, "status")
    assert result.returncode == 1
    assert "there is no compiler" in result.stderr
    assert "build-essential" in result.stderr


def test_system_packages_are_installed_by_root_only_where_they_are_missing(
    clone: Path, tmp_path: Path
) -> None:
    environment, programs, asked = clone / ".venv" / "bin", tmp_path / "programs", tmp_path / "asked"
    environment.mkdir(parents=True)
    programs.mkdir()
    for tool in ("bash", "cat", "cksum", "dirname", "sed", "sh", "tee"):
        (programs / tool).symlink_to(shutil.which(tool) or "")
    make_python(environment, "python", "echo 3.11")
    for tool in ("ruff", "mypy", "lint-imports", "pytest"):
        make_python(environment, tool, "exit 0")
    make_python(programs, "id", "echo 0")
    make_python(programs, "fio", "exit 0")
    make_python(programs, "apt-get", f'echo "$@" >>"{asked}"')
    left_out = setup(clone, "test", PATH=str(programs), QOSFLOW_SYSTEM_PACKAGES="no")
    assert left_out.returncode == 0, left_out.stderr
    assert "chromium is not installed. Debian, Ubuntu: apt-get install chromium" in left_out.stdout
    assert "fio" not in left_out.stdout
    assert not asked.exists()
    assert setup(clone, "test", PATH=str(programs)).returncode == 0
    (command,) = asked.read_text().splitlines()
    assert command.endswith("install --yes --no-install-recommends chromium fonts-dejavu-core")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"QOSFLOW_HOME": "/proc/nowhere"}, "/proc/nowhere cannot be written"),
        ({"QOSFLOW_PORT": "http"}, "QOSFLOW_PORT is 'http'"),
        ({"QOSFLOW_POSTGRES_URL": "mysql://somewhere"}, "is not the URL of a Postgres server"),
        ({"QOSFLOW_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1"}, "Cannot use the database 'postgres'"),
    ],
)
def test_up_refuses_what_cannot_work_and_says_what_to_do(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bringup.py"), "up"],
        env={"PATH": os.environ["PATH"], "QOSFLOW_HOME": str(tmp_path / "state"), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) >= 2, "an error and its cure"
