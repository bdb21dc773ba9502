"""What the pages name exists, and what exists is described: commands, options, parameters, columns, keys."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from qosflow_airflow import cli
from qosflow_airflow.core.makespan_rules import COMPLETE, MakespanRules
from qosflow_airflow.core.model import Model, ScaleModel
from qosflow_airflow.core.qos import QoSRequest
from qosflow_airflow.core.recommend import recommend
from qosflow_airflow.get_provider_info import get_provider_info
from qosflow_airflow.readers import bundle, observations_csv, rates_csv, tiers_yaml, transfer_times_csv
from tests.docs.pages import ROOT, read_page, read_pages
from tests.support.small_model import small_catalog, small_workflow, stage_times

DOCS = ROOT / "docs"


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: found for action in actions for name, found in action.choices.items()}


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def all_parsers(
    parser: argparse.ArgumentParser, name: str = "qosflow"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for command, found in commands_of(parser).items():
        yield from all_parsers(found, f"{name} {command}")


def mistakes(command: str) -> list[str]:
    """Return what is wrong with a command line that begins with ``qosflow``, as the parser sees it."""
    words = shlex.split(command, comments=True)[1:]
    parser = cli.parser()
    name = "qosflow"
    while words and commands_of(parser):
        if words[0].startswith("-"):
            break
        if words[0] not in commands_of(parser):
            return [f"`{name}` has no command {words[0]!r}"]
        name += f" {words[0]}"
        parser = commands_of(parser)[words.pop(0)]
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [f"`{name}` has no option {option}" for option in given if option not in options_of(parser)]


def shown_commands() -> Iterator[tuple[str, str]]:
    for page in read_pages():
        for block in page.blocks:
            if block.language in ("bash", "console", "") and not block.quotes:
                for line in block.text.replace("\\\n", " ").splitlines():
                    yield str(block), line.removeprefix("$ ").strip()
        for line, span in page.spans():
            yield f"{page}:{line}", span


def qosflow_commands() -> list[tuple[str, str]]:
    found = []
    for where, text in shown_commands():
        command = re.match(r"(?:\./setup\.sh )?(qosflow [a-z-].*)", text)
        # What follows a pipe or a redirection is another program's.
        if command:
            found.append((where, re.split(r"\s[|>]", command[1])[0]))
    return found


@pytest.mark.parametrize(("where", "command"), qosflow_commands())
def test_a_command_that_is_shown_exists(where: str, command: str) -> None:
    assert not mistakes(command), where


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert mistakes("qosflow bild somewhere") == ["`qosflow` has no command 'bild'"]
    assert mistakes("qosflow db downgrade") == ["`qosflow db` has no command 'downgrade'"]
    assert mistakes("qosflow recommend --model DIR --dead-line 5") == [
        "`qosflow recommend` has no option --dead-line"
    ]
    assert not mistakes("qosflow recommend --model=DIR --deadline-s 5  # seconds")


def test_every_command_and_option_is_described() -> None:
    page = read_page(DOCS / "command-line.md")
    described = {word for _, span in page.spans() for word in re.split(r"[ =\[\]|(),]+", span)}
    names = {name for name, _ in all_parsers(cli.parser())}
    headings = {text.lstrip("# ").strip("`") for _, text in page.prose if text.startswith("#")}
    groups = {name for name, parser in all_parsers(cli.parser()) if commands_of(parser)}
    missing = sorted(names - groups - headings)
    assert not missing, "give each a section in docs/command-line.md"
    options = {option for _, parser in all_parsers(cli.parser()) for option in options_of(parser)} - {
        "-h",
        "--help",
    }
    missing = sorted(options - described)
    assert not missing, "describe them in docs/command-line.md"


def test_the_commands_of_setup_are_those_of_its_help() -> None:
    said = subprocess.run([ROOT / "setup.sh", "help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^  ([a-z-]+)[ .]", said, flags=re.MULTILINE))
    shown = {
        match[1] for _, text in shown_commands() for match in re.finditer(r"\./setup\.sh ([a-z-]+)", text)
    }
    assert {"demo", "test", "down", "qosflow"} <= shown <= known


def code_of(name: str) -> set[str]:
    """Return every word of the code in the text of a page, and of its headings."""
    page = read_page(DOCS / name)
    code = [*(span for _, span in page.spans()), *(text for _, text in page.prose if text.startswith("#"))]
    return {word for span in code for word in re.split(r"[^\w.]+", span)}


def test_every_option_of_the_configuration_is_described() -> None:
    assert set(get_provider_info()["config"]["qosflow"]["options"]) <= code_of("operator.md")


@pytest.mark.airflow
def test_every_parameter_of_the_operators_is_described() -> None:
    from qosflow_airflow.operators.clean import QoSCleanOperator
    from qosflow_airflow.operators.compare import QoSCompareOperator
    from qosflow_airflow.operators.copy import QoSCopyOperator
    from qosflow_airflow.operators.pods import QoSPodsOperator
    from qosflow_airflow.operators.recommend import QoSRecommendOperator

    for operator in (
        QoSPodsOperator,
        QoSRecommendOperator,
        QoSCopyOperator,
        QoSCompareOperator,
        QoSCleanOperator,
    ):
        parameters = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}
        assert parameters <= code_of("operator.md"), operator.__name__
        assert operator.__name__ in code_of("operator.md")


@pytest.mark.parametrize("deadline_s", [None, 0.1])
def test_every_field_of_an_answer_is_described(deadline_s: float | None) -> None:
    workflow, catalog = small_workflow(), small_catalog({"disk": "/disk", "ram": "/ram"})
    model = Model(workflow, catalog, COMPLETE, (ScaleModel(1, stage_times(workflow, catalog, 1)),))
    answer = recommend(model, QoSRequest(deadline_s=deadline_s)).answer
    assert answer["status"] == ("feasible" if deadline_s is None else "infeasible")
    names = {*answer, *(answer.get("nearest") or {}), *(answer.get("split_s") or {})}
    missing = sorted(names - code_of("command-line.md"))
    assert not missing, "describe them in docs/command-line.md"


def test_every_rule_of_a_makespan_is_described() -> None:
    assert set(MakespanRules._fields) - {"name"} <= code_of("makespan-rules.md")


def test_the_rooms_of_the_architecture_are_those_of_the_package() -> None:
    page = read_page(DOCS / "architecture.md")
    package = ROOT / "qosflow_airflow"
    rows = [text for _, text in page.prose if text.startswith("| `")]
    # The first cell of a row names rooms (with a slash or an ending) or modules of the core.
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    rooms = {name for name in named if name.endswith(("/", ".py"))}
    found = {f"{path.name}/" for path in package.iterdir() if any(path.glob("*.py"))}
    found |= {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert rooms == found
    modules = {path.stem for path in (package / "core").glob("*.py")}
    assert named - rooms <= modules


def test_every_file_and_column_of_a_bundle_is_described() -> None:
    words = code_of("bundle.md")
    assert set(bundle.FILES) <= words
    for reader in (observations_csv, rates_csv, transfer_times_csv):
        assert set(reader.REQUIRED) <= words, reader.__name__
    assert {*tiers_yaml.OPTIONAL, "shared", "home", "price_per_hour", "memory_gib", "slots"} <= words
