from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path

import pytest
from lock import AIRFLOW, EXTRAS, PYTHON_VERSIONS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qosflow_airflow.get_provider_info import get_provider_info

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.+!-]*( ; [a-z_]+ [<>=!]=? '[^']+')?")


@pytest.mark.parametrize("python_version", PYTHON_VERSIONS)
def test_constraints_hold_versions_and_nothing_else(python_version: str) -> None:
    lines = (ROOT / "constraints" / f"constraints-{python_version}.txt").read_text().splitlines()
    assert [line for line in lines if not PINNED.fullmatch(line)] == []
    assert AIRFLOW in lines


@pytest.mark.parametrize("python_version", PYTHON_VERSIONS)
def test_constraints_pin_every_direct_dependency(python_version: str) -> None:
    pinned = {
        line.split("==")[0]
        for line in (ROOT / "constraints" / f"constraints-{python_version}.txt").read_text().splitlines()
    }
    extras = _declared("EXTRAS_REQUIRE")
    declared = map(Requirement, [*_declared("INSTALL_REQUIRES"), *chain(*(extras[name] for name in EXTRAS))])
    names = {
        canonicalize_name(requirement.name)
        for requirement in declared
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python_version})
    }
    assert names - pinned == set()


def test_every_dependency_says_what_it_is_for() -> None:
    source = (ROOT / "setup.py").read_text().splitlines()
    listed = source[source.index("INSTALL_REQUIRES = [") : source.index("setup(")]
    silent = [
        line
        for line in listed
        if re.match(r'\s+"', line) and not re.search(r'",  # \w', line) and "[" not in line
    ]
    assert silent == []


def test_provider_info_imports_nothing_of_airflow() -> None:
    code = (
        "import sys, qosflow_airflow.get_provider_info as info; info.get_provider_info();"
        "print([name for name in sys.modules if name.split('.')[0] == 'airflow'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_defaults_of_options_survive_the_formatting_that_airflow_does() -> None:
    for name, option in get_provider_info()["config"]["qosflow"]["options"].items():
        assert option["default"].format(AIRFLOW_HOME="/somewhere") == option["default"], name
        assert option["description"], name


@pytest.mark.airflow
def test_airflow_knows_the_provider_its_connection_and_its_options() -> None:
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "airflow-provider-qosflow" in manager.providers
    hook = manager.hooks["qosflow"]
    assert hook is not None, "the hook class could not be imported"
    assert hook.hook_class_name == "qosflow_airflow.hooks.qosflow.QoSFlowHook"
    assert "qosflow_airflow.operators.recommend.QoSRecommendationLink" in manager.extra_links_class_names
    assert conf.get("qosflow", "conn_id") == "qosflow_default"
    assert conf.getfloat("qosflow", "statement_timeout_s") == 10.0


@pytest.mark.parametrize("group", ["console_scripts", "airflow.plugins", "apache_airflow_provider"])
def test_entry_points_lead_somewhere(group: str) -> None:
    ours = [entry for entry in entry_points(group=group) if entry.value.startswith("qosflow_airflow.")]
    assert ours, f"the installed distribution has no entry point in {group}"
    for entry in ours:
        assert callable(entry.load())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a user would get it."""
    # From a copy: setuptools builds beside the sources, and would pack what an earlier build has left there.
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "qosflow_airflow", folder / "qosflow_airflow")
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--system-certs", "--out-dir", str(folder)]
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if result.returncode != 0 and "Failed to fetch" in result.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert result.returncode == 0, result.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "qosflow_airflow"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git clone")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name for name in tracked if (ROOT / name).exists()} - packed == set()
    assert {name for name in packed if not name.startswith("qosflow_airflow/")} == set()


def _declared(name: str) -> list[str] | dict[str, list[str]]:
    tree = ast.parse((ROOT / "setup.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py does not assign {name}")
