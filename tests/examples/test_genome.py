from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from errors import GenomeError
from generate import SIZES, InputSize, generate, parse_size
from genome import STAGES, digests, is_final, level, settings_from_environment, verify
from hypothesis import given
from hypothesis import strategies as st
from variants import as_records, format_record, positions, slice_lines

from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "genome"
PROGRAM = EXAMPLE / "genome.py"
StageRunner = Callable[..., Path]


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=30),
    ends_with_newline=st.booleans(),
    pieces=st.integers(1, 40),
)
def test_pieces_hold_every_line_once_and_in_order(
    lines: list[bytes], ends_with_newline: bool, pieces: int
) -> None:
    content = b"\n".join(lines) + b"\n" * ends_with_newline
    found = [
        b"".join(slice_lines(io.BytesIO(content), len(content), piece, pieces)) for piece in range(pieces)
    ]
    assert b"".join(found) == content
    assert all(piece.endswith(b"\n") for piece in found if piece and not content.endswith(piece))


def test_a_piece_reads_its_own_range_and_the_rest_of_its_last_line_only() -> None:
    class Counted(io.BytesIO):
        moved = 0

        def read(self, size: int | None = -1, /) -> bytes:
            block = super().read(size)
            self.moved += len(block)
            return block

    content = b"".join(b"%0999d\n" % number for number in range(1000))
    file = Counted(content)
    lines = b"".join(slice_lines(file, len(content), 3, 7))
    assert len(content) / 7 <= file.moved <= len(content) / 7 + 4097
    assert lines == content[len(content) * 3 // 7 // 1000 * 1000 + 1000 :][: len(lines)]


@given(st.lists(st.tuples(st.integers(0, 10**10 - 1), st.integers(0, 10**8 - 1)), max_size=20))
def test_records_give_back_the_positions(sites: list[tuple[int, int]]) -> None:
    content = b"".join(format_record(position, number, "A", "T", 0.5) for position, number in sites)
    assert positions(as_records(content, "test")).tolist() == [position for position, _ in sites]


def test_the_same_size_gives_the_same_input(tmp_path: Path, initial_data: Path) -> None:
    assert generate(tmp_path, SIZES["tests"], say=lambda message: None)
    assert verify(tmp_path, initial_data)[0] == 0
    assert not generate(tmp_path, SIZES["tests"], say=lambda message: None), "what is there is kept"


def test_input_of_another_size_replaces_all_of_it(tmp_path: Path) -> None:
    generate(tmp_path, InputSize(persons=5, variants=10, chromosomes=3), say=lambda message: None)
    generate(tmp_path, InputSize(persons=5, variants=20, chromosomes=1), say=lambda message: None)
    assert sorted(path.name for path in tmp_path.glob("*.vcf")) == [
        "ALL.chr1.sites.annotation.vcf",
        "ALL.chr1.vcf",
    ]


def test_input_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    size = InputSize(persons=5, variants=10)
    generate(tmp_path, size, say=lambda message: None)
    (tmp_path / "EUR").unlink()
    assert generate(tmp_path, size, say=lambda message: None)
    assert (tmp_path / "EUR").exists()


@pytest.mark.parametrize("text", ["huge", "0", "-5", "nan", "inf", "1e12"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(GenomeError, match="neither one of tests, demo, large nor a number"):
        parse_size(text)


def test_a_size_in_mib_grows_in_proportion() -> None:
    assert parse_size("2000").variants == pytest.approx(10 * parse_size("200").variants, rel=0.001)


def test_outputs_do_not_depend_on_the_number_of_tasks(run_stage: StageRunner, tmp_path: Path) -> None:
    seen = set()
    for count in (1, 2, 5, 7):
        pieces = run_stage("individuals", count, output=f"pieces-{count}")
        merged = run_stage("individuals_merge", count, output=f"merged-{count}", individuals=pieces)
        sifted = run_stage("sifting", count, output=f"sifted-{count}")
        folders = {"individuals_merge": merged, "sifting": sifted}
        results = [
            run_stage(stage, count, output=f"{stage}-{count}", **folders)
            for stage in ("mutation_overlap", "frequency")
        ]
        seen.add(tuple(tuple(digests(folder).items()) for folder in (merged, sifted, *results)))
    assert len(seen) == 1


def _members(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def _carriers(vcf: Path) -> dict[str, list[int]]:
    """Return the positions that each person carries, read from the VCF in the plainest way."""
    lines = [line.split("\t") for line in vcf.read_text().splitlines() if not line.startswith("##")]
    people, carried = lines[0][9:], {person: [] for person in lines[0][9:]}  # type: dict[str, list[int]]
    for fields in lines[1:]:
        for person, genotype in zip(people, fields[9:], strict=True):
            if "1" in genotype:
                carried[person].append(int(fields[1]))
    return carried


def test_outputs_are_what_the_input_says(run_stage: StageRunner, initial_data: Path) -> None:
    run_stage("individuals", 3)
    merged = run_stage("individuals_merge")
    sifted = run_stage("sifting")
    overlap = run_stage("mutation_overlap")
    frequency = run_stage("frequency")
    carried = _carriers(initial_data / "ALL.chr2.vcf")

    files = _members(merged / "chr2n.tar")
    assert {name.partition(".")[2] for name in files} == carried.keys()
    for person, found in carried.items():
        assert [int(line.split()[0]) for line in files[f"chr2.{person}"].splitlines()] == found

    annotated = (initial_data / "ALL.chr2.sites.annotation.vcf").read_text()
    scores = [line.split() for line in (sifted / "sifted.SIFT.chr2.txt").read_text().splitlines()]
    assert len(scores) == annotated.count("SIFT=") > 0
    harmful = {int(fields[0]) for fields in scores if fields[4] == "deleterious"}
    assert len(harmful) == annotated.count("SIFT=deleterious") > 0

    members = (initial_data / "EUR").read_text().split()
    pairs = [line.split() for line in _members(overlap / "chr2-EUR.tar")["pairs.txt"].splitlines()]
    assert {(one, other): int(count) for one, other, count in pairs} == {
        (one, other): len(harmful & set(carried[one]) & set(carried[other]))
        for one, other in itertools.combinations(members, 2)
    }

    counts = Counter(position for member in members for position in carried[member])
    lines = [line.split() for line in _members(frequency / "chr2-EUR-freq.tar")["frequency.txt"].splitlines()]
    assert {int(position): int(count) for position, count, *_ in lines} == counts


def test_pieces_of_two_runs_are_not_mixed(run_stage: StageRunner) -> None:
    run_stage("individuals", 2)
    run_stage("individuals", 6)
    with pytest.raises(GenomeError, match="are not the pieces of one run; empty the folder"):
        run_stage("individuals_merge")


def test_a_cut_archive_is_said_and_leaves_nothing(run_stage: StageRunner) -> None:
    pieces = run_stage("individuals", 2)
    cut = pieces / "chr1n-000-001.tar"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(GenomeError, match=r"chr1n-000-001\.tar: not a whole archive"):
        run_stage("individuals_merge")
    assert list((pieces.parent / "individuals_merge").iterdir()) == []


def test_a_stage_without_its_input_says_which(run_stage: StageRunner, tmp_path: Path) -> None:
    with pytest.raises(GenomeError, match=r"individuals: No such file or directory; has individuals run"):
        run_stage("individuals_merge")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GenomeError, match=r"no file matches .* has initial_data run"):
        run_stage("sifting", initial_data=tmp_path / "empty")


def test_a_task_that_is_ended_leaves_no_file(run_stage: StageRunner, tmp_path: Path) -> None:
    pieces = run_stage("individuals", 1)
    (pieces / "chr1n-000-001.tar").rename(pieces / "chr1n-000-002.tar")
    os.mkfifo(pieces / "chr1n-001-002.tar")
    command = [sys.executable, PROGRAM, "individuals_merge", "--index", "0", "--count", "2"]
    output = tmp_path / "merged"
    task = subprocess.Popen([*command, "--input", f"individuals={pieces}", "--output", output])
    with (pieces / "chr1n-001-002.tar").open("wb"):  # open and silent: the task waits for the second piece
        deadline = time.monotonic() + 20
        while not (output.exists() and list(output.iterdir())):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        task.send_signal(signal.SIGTERM)
        assert task.wait(20) == 128 + signal.SIGTERM
    assert list(output.iterdir()) == []


ENVIRONMENT = {
    "QOSFLOW_STAGE": "sifting",
    "QOSFLOW_INDEX": "1",
    "QOSFLOW_COUNT": "2",
    "QOSFLOW_INPUTS": '{"initial_data": "/data/in"}',
    "QOSFLOW_OUTPUT": "/data/out",
}


def test_a_task_takes_its_settings_from_the_environment() -> None:
    settings = settings_from_environment({**ENVIRONMENT, "QOSFLOW_TIER": "tmpfs"})
    assert (settings.stage, settings.index, settings.count) == ("sifting", 1, 2)
    assert settings.inputs == {"initial_data": Path("/data/in")}
    assert (settings.tier, settings.nodes, settings.records) == ("tmpfs", 1, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"QOSFLOW_STAGE": "shifting"}, "QOSFLOW_STAGE is 'shifting'; use one of individuals,"),
        ({"QOSFLOW_INDEX": "one"}, "QOSFLOW_INDEX is 'one'; give a whole number"),
        ({"QOSFLOW_INPUTS": "/data/in"}, "QOSFLOW_INPUTS is '/data/in'; give a JSON object"),
        ({"QOSFLOW_INPUTS": "[1]"}, "give a JSON object"),
        ({"QOSFLOW_OUTPUT": ""}, "QOSFLOW_OUTPUT is not set"),
    ],
)
def test_a_wrong_environment_is_said(change: dict[str, str], message: str) -> None:
    with pytest.raises(GenomeError, match=message.replace("[", r"\[")):
        settings_from_environment({**ENVIRONMENT, **change})


def test_the_command_line_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False
        )

    outside = run("sifting", "--index", "2", "--count", "2", "--input", "initial_data=x", "--output", "y")
    assert outside.returncode == 2
    assert "index 2 is not one of 2 tasks" in outside.stderr
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "file").write_text("1")
    (tmp_path / "b" / "file").write_text("2")
    differ = run("verify", str(tmp_path / "a"), str(tmp_path / "b"))
    assert differ.returncode == 1
    assert "differ in file" in differ.stdout


def test_the_template_says_what_the_programs_do() -> None:
    workflow = read_workflow_yaml(EXAMPLE / "workflow.yaml")
    assert set(workflow.stage_names) == set(STAGES)
    for stage in workflow.stages:
        assert set(stage.predecessors) == set(STAGES[stage.name][1])
        assert stage.level == level(stage.name)
        assert is_final(stage.name) == (not workflow.successors(stage.name))
