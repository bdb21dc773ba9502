"""A small 1000 Genomes workflow: each stage is a command that runs on any folders.

python genome.py generate --output FOLDER --size demo
python genome.py individuals --index 0 --count 10 --input initial_data=FOLDER --output FOLDER
python genome.py run                      # the same, told by QOSFLOW_STAGE, QOSFLOW_INDEX, ...
python genome.py verify FOLDER [FOLDER]   # print one digest, or compare two folders
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from collector import INITIAL_DATA, TaskTrace
from errors import GenomeError
from generate import SIZES, generate, parse_size
from populations import frequency, mutation_overlap
from stages import individuals, individuals_merge, sifting
from task import Task

STAGES: dict[str, tuple[Callable[[Task], None], tuple[str, ...]]] = {
    "individuals": (individuals, (INITIAL_DATA,)),
    "individuals_merge": (individuals_merge, ("individuals",)),
    "sifting": (sifting, (INITIAL_DATA,)),
    "mutation_overlap": (mutation_overlap, (INITIAL_DATA, "individuals_merge", "sifting")),
    "frequency": (frequency, (INITIAL_DATA, "individuals_merge", "sifting")),
}
"""Per stage, what a task does and the producers it reads from."""
ENVIRONMENT = "QOSFLOW_"


def level(stage: str) -> int:
    """Return the 1-based level of a stage: one more than the highest of its producers."""
    return 1 + max((level(name) for name in STAGES[stage][1] if name in STAGES), default=0)


def is_final(stage: str) -> bool:
    """Return whether no stage reads what this one writes."""
    return all(stage not in producers for _, producers in STAGES.values())


def run_task(stage: str, settings: argparse.Namespace) -> str:
    """Run one task of ``stage``, save its record where a folder is given for it, and say what it moved."""
    action, producers = STAGES[stage]
    missing = [name for name in producers if name not in settings.inputs]
    if missing:
        raise GenomeError(
            f"stage {stage} has no folder for its input {', '.join(missing)}; name one per producer"
        )
    if not 0 <= settings.index < settings.count:
        raise GenomeError(f"index {settings.index} is not one of {settings.count} tasks; count from 0")
    trace = TaskTrace(
        stage,
        settings.index,
        settings.count,
        level=level(stage),
        final=is_final(stage),
        tier=settings.tier,
        nodes=settings.nodes,
        recommendation_id=settings.recommendation_id,
    )
    settings.output.mkdir(parents=True, exist_ok=True)
    action(Task(settings.index, settings.count, settings.inputs, settings.output, trace))
    if settings.records is not None:
        trace.save(settings.records)
    return (
        f"{stage} {settings.index + 1}/{settings.count}: "
        f"read {trace.moved_bytes('read') / 2**20:.1f} MiB in {trace.seconds('read'):.3f} s, "
        f"wrote {trace.moved_bytes('write') / 2**20:.1f} MiB in {trace.seconds('write'):.3f} s"
    )


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each finished file below ``folder``, by relative name."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    found = {}
    for path in sorted(files):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    if not found:
        raise GenomeError(f"{folder}: no files; is it the folder of a stage's output?")
    return found


def verify(first: Path, second: Path | None) -> tuple[int, str]:
    """Return an exit code and what to say: one digest of ``first``, or how it differs from ``second``."""
    left = digests(first)
    if second is None:
        whole = hashlib.sha256(json.dumps(left, sort_keys=True).encode("ascii")).hexdigest()
        return 0, f"{whole}  {first} ({len(left)} files)"
    right = digests(second)
    different = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    if different:
        return 1, f"{first} and {second} differ in {', '.join(different)}"
    return 0, f"{first} and {second} hold the same {len(left)} files"


def _environment(environment: Mapping[str, str], name: str, default: str | None = None) -> str:
    value = environment.get(ENVIRONMENT + name, default)
    if value is None or (value == "" and default is None):
        raise GenomeError(f"{ENVIRONMENT}{name} is not set; `run` takes its settings from the environment")
    return value


def settings_from_environment(environment: Mapping[str, str]) -> argparse.Namespace:
    """Return the settings of a task as ``QOSFLOW_*`` variables give them."""
    inputs = _environment(environment, "INPUTS")
    records = _environment(environment, "RECORDS", "")
    try:
        folders = {str(name): Path(folder) for name, folder in json.loads(inputs).items()}
    except (ValueError, AttributeError, TypeError):
        raise GenomeError(f"QOSFLOW_INPUTS is {inputs!r}; give a JSON object of producer to folder") from None
    stage = _environment(environment, "STAGE")
    if stage not in STAGES:
        raise GenomeError(f"QOSFLOW_STAGE is {stage!r}; use one of {', '.join(STAGES)}")
    return argparse.Namespace(
        stage=stage,
        index=_whole(environment, "INDEX"),
        count=_whole(environment, "COUNT"),
        inputs=folders,
        output=Path(_environment(environment, "OUTPUT")),
        records=Path(records) if records else None,
        tier=_environment(environment, "TIER", "") or "local",
        nodes=_whole(environment, "NODES", "1"),
        recommendation_id=_environment(environment, "RECOMMENDATION_ID", "") or None,
    )


def _whole(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = _environment(environment, name, default)
    try:
        return int(text)
    except ValueError:
        raise GenomeError(f"{ENVIRONMENT}{name} is {text!r}; give a whole number") from None


def _folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, Path(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    generating = commands.add_parser("generate", help="write the input")
    generating.add_argument("--output", type=Path, required=True)
    generating.add_argument("--size", default="demo", help=f"{', '.join(SIZES)} or MiB moved in all")
    generating.add_argument("--force", action="store_true", help="write it again where it is there already")
    verifying = commands.add_parser("verify", help="print the digest of a folder, or compare two")
    verifying.add_argument("folder", type=Path)
    verifying.add_argument("other", type=Path, nargs="?")
    commands.add_parser("run", help="run the task that QOSFLOW_* variables describe")
    for stage in STAGES:
        command = commands.add_parser(stage, help=f"run one task of {stage}")
        command.add_argument("--index", type=int, required=True)
        command.add_argument("--count", type=int, required=True)
        command.add_argument("--input", type=_folder, action="append", default=[], metavar="NAME=FOLDER")
        command.add_argument("--output", type=Path, required=True)
        command.add_argument("--records", type=Path)
        command.add_argument("--tier", default="local")
        command.add_argument("--nodes", type=int, default=1)
        command.add_argument("--recommendation-id")
    return parser


def _stop(_signal: int, _frame: FrameType | None) -> None:
    # An exception, so that the temporary file of an unfinished output is removed on the way out.
    raise SystemExit(128 + signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 where folders differ, 2 on bad input."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    try:
        if options.command == "generate":
            generate(options.output, parse_size(options.size), force=options.force)
        elif options.command == "verify":
            code, message = verify(options.folder, options.other)
            print(message)
            return code
        elif options.command == "run":
            settings = settings_from_environment(os.environ)
            print(run_task(settings.stage, settings))
        else:
            options.inputs = dict(options.input)
            print(run_task(options.command, options))
    except (GenomeError, OSError) as error:
        print(f"genome: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
