"""A process that reads Darshan logs: the library ends the process, or hangs, over some damaged ones.

Run as a program with paths as arguments: one JSON answer a line and log on standard output. What the library
says of a log goes to standard error in C, so that is caught where it is written.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

MODULES = ("POSIX", "STDIO")
ID_MASK = 2**64 - 1


def read(path: str) -> dict[str, Any]:
    """Return the job, the modules and the records of one log as plain values."""
    import darshan

    # Not everything: newer traces of single accesses (DXT) make that fail, and are not needed.
    report = darshan.DarshanReport(path, read_all=False)
    job = report.metadata["job"]
    answer: dict[str, Any] = {
        "job_id": int(job["jobid"]),
        "processes": int(job["nprocs"]),
        "start_s": job["start_time_sec"] + job.get("start_time_nsec", 0) / 1e9,
        "end_s": job["end_time_sec"] + job.get("end_time_nsec", 0) / 1e9,
        "modules": {name: bool(module["partial_flag"]) for name, module in report.modules.items()},
        "records": [],
    }
    for module in MODULES:
        if module in report.modules:
            answer["records"] += records(report, module)
    return answer


def records(report: Any, module: str) -> list[dict[str, Any]]:
    """Return what each rank did in each file; -1 stands for all ranks together."""
    report.mod_read_all_records(module)
    if not len(report.records[module]):
        return []
    frames = report.records[module].to_df()
    counters, seconds = frames["counters"], frames["fcounters"]
    # By column: a row would turn the 64 bits of an identifier into a rounded number.
    names = [
        report.name_records.get(int(key) & ID_MASK, f"id:{int(key) & ID_MASK}") for key in counters["id"]
    ]
    columns = {
        "rank": counters["rank"],
        "reads": counters[f"{module}_READS"],
        "writes": counters[f"{module}_WRITES"],
        "bytes_read": counters[f"{module}_BYTES_READ"],
        "bytes_written": counters[f"{module}_BYTES_WRITTEN"],
        "read_s": seconds[f"{module}_F_READ_TIME"],
        "write_s": seconds[f"{module}_F_WRITE_TIME"],
        "meta_s": seconds[f"{module}_F_META_TIME"],
    }
    ends = [name for name in seconds if name.endswith("_END_TIMESTAMP")]
    columns["last_s"] = seconds[ends].max(axis=1)
    values = {name: column.tolist() for name, column in columns.items()}
    return [
        {"module": module, "file": file, **dict(zip(values, row, strict=True))}
        for file, row in zip(names, zip(*values.values(), strict=True), strict=True)
    ]


def main(paths: list[str]) -> None:
    """Answer for each path."""
    for path in paths:
        with tempfile.TemporaryFile() as said:
            kept = os.dup(2)
            os.dup2(said.fileno(), 2)
            try:
                answer = read(path)
            except Exception as error:  # noqa: BLE001 - whatever the library raises is an answer
                answer = {"error": f"{type(error).__name__}: {error}"}
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
                os.close(kept)
            said.seek(0)
            complaints = [
                line for line in said.read().decode(errors="replace").splitlines() if "Error" in line
            ]
        if complaints:
            answer = {"error": complaints[0].strip()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
