"""Every benchmark in one table: ours, its floor, its peers, ratios, memory, and how costs grow.

    python -m benchmarks [--quick | --full] [--only NAME ...] [--out FILE]
    python -m benchmarks --page

The figures go to benchmarks/results.json (of --only: nowhere unless --out says so); --page makes
docs/benchmarks.md and its picture of every benchmarks/results*.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.measure import ROOT, SIZES, Curve, Figures, Job, Slope, fitted, measured
from benchmarks.page import figures_of, heading, lines, slope_line, slopes_of, write_page

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
SHARED = ("__init__", "__main__", "machine", "measure", "page")
OTHER = ("kills", "stream")  # commands of their own: counts what is lost; is timed by stored.py
LIMIT = {"quick": 300, "default": 600, "full": 3600}  # seconds a job or a curve may take in all


def names() -> list[str]:
    """The files that are benchmarks."""
    return sorted(p.stem for p in HERE.glob("*.py") if p.stem not in SHARED + OTHER)


def jobs_of(file: str, size: str) -> list[Job]:
    module = import_module(f"benchmarks.{file}")
    return list(module.jobs(size))


def curves_of(file: str, size: str) -> list[Curve]:
    """How its costs grow, if the file says so."""
    grow = getattr(import_module(f"benchmarks.{file}"), "growth", None)
    return list(grow(size)) if grow else []


# ---------------------------------------------------------------- a process a job


def child(kind: str, file: str, name: str, threads: int, size: str) -> dict:
    """The figures of one job or curve, from a process of its own."""
    count = str(threads)
    variables = {f"{k}_NUM_THREADS": count for k in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    command = [sys.executable, "-m", "benchmarks", f"--{size}", "--one", kind, file, name]
    code, out, err = finished(command, os.environ | variables, LIMIT[size])
    empty = {"file": file, "name": name}
    if code is None:
        return empty | {"failed": f"took longer than {LIMIT[size]} s"}
    if code:
        last = err.strip().splitlines()[-1:] or [""]
        return empty | {"failed": f"its process ended with {code}: {last[0][:160]}"}
    return json.loads(out.splitlines()[-1])


def finished(command: list[str], env: dict, limit: float) -> tuple[int | None, str, str]:
    """Exit code (None: it took too long), output, errors; no process of its own is left behind."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, **pipes) as work:
        try:
            out, err = work.communicate(timeout=limit)
            return work.returncode, out, err
        except subprocess.TimeoutExpired:
            return None, "", ""
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(work.pid, signal.SIGKILL)


def one(kind: str, file: str, name: str, size: str) -> None:
    """What the child does: its last line is JSON."""
    if kind == "job":
        found = measured(file, named(jobs_of(file, size), name), size)
    else:
        found = fitted(file, named(curves_of(file, size), name), size)
    print("\n" + json.dumps(asdict(found)))


def named(items: list, name: str):
    return next(item for item in items if item.name == name)


def run(only: list[str], size: str) -> Iterator[Figures | Slope]:
    """All jobs, then all curves, as they are done."""
    for file in only:
        for job in jobs_of(file, size):
            found = child("job", file, job.name, job.threads, size)
            yield figures_of(found)
    for file in only:
        for curve in curves_of(file, size):
            found = child("curve", file, curve.name, curve.threads, size)
            about = {k: getattr(curve, k) for k in ("size", "expected", "why", "unit")}
            yield slopes_of(about | found)


# ---------------------------------------------------------------- the command


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n")[0])
    sizes = parser.add_mutually_exclusive_group()
    for size, what in (("quick", "small sizes, two minutes"), ("full", "the largest sizes")):
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=what)
    sizes.add_argument(
        "--default", dest="size", action="store_const", const="default", help=argparse.SUPPRESS
    )
    parser.add_argument("--only", nargs="+", choices=names(), metavar="NAME")
    parser.add_argument("--out", type=Path, help="the JSON of figures")
    parser.add_argument("--page", action="store_true", help="make docs/benchmarks.md; run nothing")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args(given)
    asked.size = asked.size or "default"
    assert asked.size in SIZES
    return asked


def main(given: list[str] | None = None) -> int:
    """1 if a job or a curve failed, else 0; what cannot run here is no failure."""
    asked = arguments(given)
    if asked.page:
        print(write_page())
        return 0
    if asked.one:
        one(*asked.one, asked.size)
        return 0
    about = machine() | {"size": asked.size}
    out = asked.out or (None if asked.only else RESULTS)
    print(heading(about), flush=True)
    found: list[Figures | Slope] = []
    for item in run(asked.only or names(), asked.size):
        if not found or found[-1].file != item.file or type(found[-1]) is not type(item):
            print(f"-- {item.file}")
        found.append(item)
        print("\n".join(lines(item)) if isinstance(item, Figures) else slope_line(item), flush=True)
        about |= {"load_after": os.getloadavg()[0], "seconds": cpu_seconds()}
        if out is not None:  # what is done by then survives an interruption
            out.write_text(json.dumps(as_json(about, found), indent=1) + "\n")
    print(f"{about.get('seconds', 0):.0f} CPU s in all; figures in {out or 'no file'}")
    return int(any(f.failed and not f.failed.startswith("not here") for f in found))


def cpu_seconds() -> float:
    """Of all jobs together, what is not timed included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def as_json(about: dict, found: list[Figures | Slope]) -> dict:
    return {
        "machine": about,
        "jobs": [asdict(f) for f in found if isinstance(f, Figures)],
        "growth": [asdict(f) for f in found if isinstance(f, Slope)],
    }


if __name__ == "__main__":
    sys.exit(main())
