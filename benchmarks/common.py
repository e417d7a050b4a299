"""What the benchmarks share: a measured process, a table of results, the machine, a section each of the report."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ninefold.params import parse

HERE = Path(__file__).parent
ROOT = HERE.parent
REPORT = HERE / "README.md"
SECTIONS = ("pipeline", "engine", "increment", "quality", "serving", "batch", "contract", "coverage")
WORK = Path("/tmp/ninefold-bench")
GIB = 2**30
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `measure` ends what it started
EXHAUSTED = re.compile(r"OutOfMemory|Out of Memory|MemoryError|Unable to allocate")


@dataclass
class Run:
    """What a process took."""

    status: str  # "ok", or why there is no result
    seconds: float
    peak: int  # bytes that the process and its children held in memory at once
    temp: int  # bytes that they held in the folder of temporary files at once
    said: str  # the last line of its output


def measure(
    command: list[str],
    folder: Path,
    limit: float | None = None,
    ceiling: float | None = None,
    temp: Path | None = None,
    env: dict[str, str] | None = None,
) -> Run:
    """Run a command in a folder; stop it, with its children, after so many seconds, or when it holds so many bytes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **(env or {})}, stdout=out, stderr=err, start_new_session=True
        )
        watched, peak, spilled, status, step = psutil.Process(process.pid), 0, 0, "", 0
        try:
            while not (done := os.wait4(process.pid, os.WNOHANG))[0]:
                held, seconds = _held(watched), time.perf_counter() - started
                peak, step = max(peak, held), step + 1
                if temp and step % 5 == 0:
                    spilled = max(spilled, _size(temp))
                if not status and limit and seconds > limit:
                    status = f"stopped after {limit:.0f} s"
                elif not status and ceiling and held > ceiling:
                    status = f"out of memory: stopped at {held / GIB:.1f} GiB"
                if status:
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.05)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        process.returncode = os.waitstatus_to_exitcode(done[1])
        seconds = time.perf_counter() - started
        # What the system counted sees the peaks between two looks, too; it begins with those of the process that started it.
        counted, own = done[2].ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if counted > own:
            peak = max(peak, counted * (1 if sys.platform == "darwin" else 1024))
        said, complaint = ([line for line in _text(stream).splitlines() if line.strip()] for stream in (out, err))
    if not status and process.returncode:
        lost = process.returncode == -signal.SIGKILL or any(EXHAUSTED.search(line) for line in complaint)
        status = "out of memory" if lost else f"failed: {complaint[-1].strip() if complaint else process.returncode}"
        print("\n".join(complaint[-15:]), file=sys.stderr)
    return Run(status or "ok", seconds, peak, spilled, said[-1] if said else "")


def job(name: str, folder: Path, **options: Any) -> tuple[Run, float | None]:
    """Run a job of `jobs.py` in the folder of a project; return what it took, and its own seconds without imports."""
    run = measure([sys.executable, str(HERE / "jobs.py"), name], folder, **options)
    return run, json.loads(run.said)["seconds"] if run.status == "ok" else None


def write_params(folder: Path, source: Path = ROOT, **sections: dict[str, Any]) -> None:
    """Write the params of a project into a folder, with some values of sections replaced (JSON is YAML)."""
    values = parse((source / "params.yaml").read_text(encoding="utf-8"))
    for section, changes in sections.items():
        values[section] = _laid_over(values.get(section) or {}, changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")


def machine() -> str:
    """Return the size of the machine in words."""
    memory = psutil.virtual_memory().total / GIB
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()}, Python {platform.python_version()}"
    )


def read_rows(place: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, all text; none if it is not there."""
    if not place.exists():
        return []
    with place.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def merge_rows(place: Path, new: Iterable[dict[str, Any]], key: list[str], order: Any) -> None:
    """Put rows into a CSV file, in place of those with the same key."""
    rows = {tuple(row[name] for name in key): row for row in read_rows(place)}
    rows |= {tuple(str(row[name]) for name in key): {name: str(row[name]) for name in row} for row in new}
    ordered = sorted(rows.values(), key=order)
    with place.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(ordered[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)


def write_section(name: str, lines: list[str]) -> None:
    """Write one section of the report; those of the other benchmarks stay as they are."""
    text = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
    found = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", text, re.DOTALL))
    found[name] = "\n".join(lines).strip()
    parts = [f"<!-- {one} -->\n{found[one]}\n<!-- end -->" for one in SECTIONS if one in found]
    head = "# Benchmarks\n\nWritten by `make bench`: absolute times depend on the machine; compare ratios of one run."
    REPORT.write_text("\n\n".join([head, *parts]) + "\n", encoding="utf-8")
    print(found[name])


def _held(process: psutil.Process) -> int:
    """Return the bytes of memory that a process and all below it hold."""
    held = 0
    try:
        for one in (process, *process.children(recursive=True)):
            try:
                held += one.memory_info().rss
            except psutil.Error:  # it ended meanwhile
                continue
    except psutil.Error:
        pass
    return held


def _size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    size = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                size += os.lstat(os.path.join(place, file)).st_size
            except OSError:  # it was removed meanwhile
                continue
    return size


def _text(stream: Any) -> str:
    stream.seek(0)
    return stream.read()


def _laid_over(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: isinstance(values.get(key), dict) and isinstance(changes[key], dict) for key in changes}
    return values | {key: _laid_over(values[key], changes[key]) if both[key] else changes[key] for key in changes}
