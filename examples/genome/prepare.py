"""Prepare the bundle of the genome workflow: its input, what the tiers reach here, and one traced run.

    python prepare.py --output BUNDLE --tier disk=/data/qosflow --tier tmpfs=/dev/shm/qosflow --size demo

The first tier is the shared one: the input is written there and the traced run takes place there. What is
there already and was made with the same settings is kept, files that a person has edited included;
``--force`` makes everything again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from collector import collect, read_records
from errors import GenomeError
from generate import MANIFEST, MOVED_BYTES_PER_VARIANT, SIZES, InputSize, generate, is_generated, parse_size
from local_run import PROGRAM, WorkflowRun, run_workflow

from qosflow_airflow.core.tiers import NodePool, StorageTier, TierCatalog
from qosflow_airflow.exceptions import QoSFlowError
from qosflow_airflow.measure.page_cache import evict
from qosflow_airflow.measure.profile_csv import write_profile
from qosflow_airflow.measure.scratch import is_memory, scratch, usable_bytes
from qosflow_airflow.measure.tiers import measure_tiers
from qosflow_airflow.readers.tiers_yaml import check_tier_name
from qosflow_airflow.readers.workflow_yaml import read_workflow_yaml

GIB = 1 << 30
HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "workflow.yaml"
STAMP = "prepared.json"
SUMMARY = "run.json"


@dataclass(frozen=True)
class Settings:
    """What to prepare: ``tiers`` are absolute folders, the shared one first.

    Of several ``traces``, the one whose run took the median time is kept.
    """

    bundle: Path
    tiers: Mapping[str, Path]
    size: InputSize
    processes: int
    budget_s: float = 15.0
    force: bool = False
    traces: int = 1

    @property
    def shared(self) -> str:
        """The name of the shared tier."""
        return next(iter(self.tiers))

    @property
    def initial_data(self) -> Path:
        """Where the input lies."""
        return self.tiers[self.shared] / "initial_data"


class Products:
    """The files of a bundle, each with the settings it was made with; made whole or not at all."""

    def __init__(self, bundle: Path, force: bool) -> None:
        self._bundle = bundle
        self._stamp = bundle / STAMP
        try:
            self._made_with = {} if force else dict(json.loads(self._stamp.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self._made_with = {}

    def forget(self, name: str) -> None:
        """Have ``name`` made again."""
        self._made_with.pop(name, None)

    def make(self, name: str, settings: object, write: Callable[[Path], None]) -> None:
        """Write the file ``name``, unless it is there and was made with equal settings."""
        path = self._bundle / name
        key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
        if path.exists() and self._made_with.get(name) == key:
            say(f"{name}: reused")
            return
        temporary = path.with_name(f".{name}.{os.getpid()}.part")
        try:
            write(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._made_with[name] = key
        write_text(self._stamp, json.dumps(self._made_with, indent=1) + "\n")
        say(f"{name}: written")


def prepare(settings: Settings) -> None:
    """Prepare the bundle.

    Raises
    ------
    GenomeError, QoSFlowError, OSError
        When a tier lacks space or rights, a task fails, or a name is wrong.
    """
    for folder in (settings.bundle, *settings.tiers.values()):
        folder.mkdir(parents=True, exist_ok=True)
    catalog = make_catalog(settings)
    check_space(settings)
    generate(settings.initial_data, settings.size, force=settings.force, say=say)
    tiers = {name: str(folder) for name, folder in settings.tiers.items()}
    products = Products(settings.bundle, settings.force)
    template = TEMPLATE.read_text(encoding="utf-8")
    products.make("workflow.yaml", template, lambda path: write_text(path, template))
    products.make("tiers.yaml", [tiers, settings.processes], lambda path: write_tiers(path, catalog))
    products.make("profile.csv", [tiers, settings.processes], lambda path: measure(path, settings))
    trace = {
        "template": template,
        "sources": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(HERE.glob("*.py"))],
        "input": json.loads((settings.initial_data / MANIFEST).read_text(encoding="utf-8")),
        "tiers": tiers,
        "processes": settings.processes,
        "traces": settings.traces,
    }
    if not (settings.bundle / SUMMARY).exists():
        products.forget("observations.csv")
    products.make("observations.csv", trace, lambda path: trace_run(path, settings, catalog))


def make_catalog(settings: Settings) -> TierCatalog:
    """Return the tiers as they are on this machine."""
    tiers = []
    for name, folder in settings.tiers.items():
        status = os.statvfs(folder)
        tiers.append(
            StorageTier(
                check_tier_name(name),
                shared=name == settings.shared,
                mount=str(folder),
                capacity_bytes=status.f_bavail * status.f_frsize,
                memory=is_memory(folder),
            )
        )
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return TierCatalog(tuple(tiers), settings.shared, NodePool(None, memory_bytes, settings.processes))


def check_space(settings: Settings) -> None:
    """Raise where the shared tier could not hold the input and every output."""
    if is_generated(settings.initial_data, settings.size):
        return
    moved = settings.size.variants * settings.size.chromosomes * settings.size.persons
    needed = moved * MOVED_BYTES_PER_VARIANT // SIZES["demo"].persons
    folder = settings.tiers[settings.shared]
    free = usable_bytes(folder)
    if free < needed:
        raise GenomeError(
            f"{folder}: needs {needed / GIB:.2f} GiB and {free / GIB:.2f} may be used; "
            "free some space, choose a smaller --size or another first tier"
        )


def write_tiers(path: Path, catalog: TierCatalog) -> None:
    """Write ``tiers.yaml``."""
    tiers = {
        tier.name: {
            "shared": tier.shared,
            "mount": tier.mount,
            "capacity_gib": round((tier.capacity_bytes or 0) / GIB, 3),
            "memory": tier.memory,
        }
        for tier in catalog.tiers
    }
    node = {
        "memory_gib": round((catalog.node.memory_bytes or 0) / GIB, 3),
        "slots": catalog.node.slots,
    }
    document = {"home": catalog.home, "tiers": tiers, "node": node}
    write_text(path, yaml.safe_dump(document, sort_keys=False))


def measure(path: Path, settings: Settings) -> None:
    """Measure the tiers and write ``profile.csv``."""
    jobs = sorted({1, 2, settings.processes})
    write_profile(measure_tiers(settings.tiers, budget_s=settings.budget_s, progress=say, jobs=jobs), path)


def trace_run(path: Path, settings: Settings, catalog: TierCatalog) -> None:
    """Run the workflow on the shared tier; write its observations, and ``run.json`` beside them."""
    with scratch(settings.shared, settings.tiers[settings.shared]) as own:
        shared = replace(catalog.tier(settings.shared), mount=str(own))
        only = TierCatalog((shared,), settings.shared, catalog.node)
        runs = [run_once(settings, only, f"trace{number}") for number in range(settings.traces)]
        run = sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 2]
        collect(run.records, path)
        summary = summarise(settings, run)
    write_text(settings.bundle / SUMMARY, json.dumps(summary, indent=1) + "\n")
    say(f"trace: {summary['moved_mib']:.0f} MiB moved in {summary['seconds']:.1f} s")


def run_once(settings: Settings, catalog: TierCatalog, run_id: str) -> WorkflowRun:
    """Run the workflow once; of what it wrote, only the records stay."""
    workflow = read_workflow_yaml(TEMPLATE)
    # As a first run finds it: the input was written long ago, and is in no cache.
    evict([settings.initial_data])
    say(f"trace: {sum(stage.tasks for stage in workflow.stages)} tasks, {settings.processes} at a time")
    run = run_workflow(
        workflow,
        catalog,
        dict.fromkeys(workflow.stage_names, settings.shared),
        run_id=run_id,
        initial_data=settings.initial_data,
        processes=settings.processes,
        # The model knows what stages do to each other; each must be seen as it is alone.
        one_by_one=True,
        say=lambda message: say(f"trace: {message}"),
    )
    for folder in run.outputs.values():
        shutil.rmtree(folder, ignore_errors=True)
    return run


def summarise(settings: Settings, run: WorkflowRun) -> dict[str, Any]:
    """Return what ``run.json`` holds: where the input lies, what runs a task, and what the trace moved."""
    stages: dict[str, dict[str, float]] = {}
    for record in read_records(run.records):
        name = record["stage"]
        seconds = round(run.stages[name].end_s - run.stages[name].begin_s, 3)
        stage = stages.setdefault(
            name, {"tasks": record["count"], "seconds": seconds, "read_mib": 0.0, "write_mib": 0.0}
        )
        for file in record["files"]:
            stage[f"{file['operation']}_mib"] += file["bytes"] / (1 << 20)
    return {
        "workflow": "genome",
        "initial_data": str(settings.initial_data),
        "program": [str(PROGRAM), "run"],
        "tiers": {name: str(folder) for name, folder in settings.tiers.items()},
        "size": asdict(settings.size),
        "processes": settings.processes,
        "seconds": round(run.seconds, 3),
        "moved_mib": sum(stage["read_mib"] + stage["write_mib"] for stage in stages.values()),
        "stages": stages,
    }


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.text")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def say(message: str) -> None:
    """Show progress."""
    print(message, flush=True)


def _tier(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, Path(folder).absolute()


def _processes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1024")
    return int(text)


def _settings(arguments: list[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the folder of the bundle")
    parser.add_argument("--tier", type=_tier, action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--size", default="demo", help=f"{', '.join(SIZES)} or MiB moved in all")
    parser.add_argument("--processes", type=_processes, default=os.cpu_count() or 1, help="tasks at a time")
    parser.add_argument("--budget-s", type=float, default=15.0, help="seconds to measure the tiers")
    parser.add_argument("--traces", type=_processes, default=1, help="runs, of which the median is kept")
    parser.add_argument("--force", action="store_true", help="make everything again")
    options = parser.parse_args(arguments)
    tiers = dict(options.tier)
    if len(tiers) != len(options.tier) or len(set(tiers.values())) != len(options.tier):
        parser.error("two tiers have the same name or folder")
    try:
        size = parse_size(options.size)
    except GenomeError as error:
        parser.error(str(error))
    return Settings(
        options.output.absolute(),
        tiers,
        size,
        options.processes,
        options.budget_s,
        options.force,
        options.traces,
    )


def _stop(number: int, _frame: FrameType | None) -> None:
    # An exception, so that tasks are ended and temporary files removed on the way out.
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, or 2 with a message."""
    settings = _settings(arguments)
    signal.signal(signal.SIGTERM, _stop)
    try:
        prepare(settings)
    except (GenomeError, QoSFlowError, OSError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    say(f"bundle: {settings.bundle}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
