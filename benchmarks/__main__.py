"""Every benchmark in one table: ours, its floor, its peers, ratios, memory, and how costs grow.

    python -m benchmarks [--quick | --full] [--only NAME ...] [--out FILE]
    python -m benchmarks --page

The figures go to benchmarks/results.json, and docs/benchmarks.md with its picture is made of every
benchmarks/results*.json at the same moment. With --only or --out neither is touched: figures go to
FILE. --page makes the page again and runs nothing.
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
import time
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.measure import (
    ROOT,
    SIZES,
    Curve,
    Figures,
    Job,
    Slope,
    about,
    fitted,
    measured,
    said,
)
from benchmarks.page import (
    RESULTS,
    figures_of,
    heading,
    lines,
    slope_line,
    slopes_of,
    whole,
    write_page,
)

HERE = Path(__file__).parent
SHARED = ("__init__", "__main__", "machine", "measure", "page")
OTHER = ("kills", "stream")  # commands of their own: counts what is lost; is timed by stored.py
UNDONE = "not measured: the run ended before it"
LIMIT = {"quick": 300, "default": 600, "full": 3600}  # seconds a job or a curve may take in all

Line = Figures | Slope


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
    begun, count = time.perf_counter(), str(threads)
    variables = {f"{k}_NUM_THREADS": count for k in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    command = [sys.executable, "-m", "benchmarks", f"--{size}", "--one", kind, file, name]
    code, out, err = finished(command, os.environ | variables, LIMIT[size])
    found = {"file": file, "name": name, "took": time.perf_counter() - begun}
    if code is None:
        return found | {"failed": f"took longer than {LIMIT[size]} s"}
    if code or not out.strip():
        last = err.strip().splitlines()[-1:] or [""]
        return found | {"failed": f"its process ended with {code}: {last[0][:160]}"}
    return json.loads(out.splitlines()[-1]) | found


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


def asked_for(only: list[str], size: str) -> list[Line]:
    """A line for each job, then one for each curve, none of them measured."""
    jobs: list[Line] = []
    curves: list[Line] = []
    for file in only:
        try:
            jobs += [
                Figures(file, j.name, threads=j.threads, clock=j.clock, failed=UNDONE)
                for j in jobs_of(file, size)
            ]
            curves += [Slope(file, **about(c), failed=UNDONE) for c in curves_of(file, size)]
        except Exception as error:  # noqa: BLE001  # a file that does not load is a line
            jobs.append(Figures(file, "all of it", failed=said(error)))
    return jobs + curves


def done(line: Line, size: str) -> Line:
    """The line with its figures."""
    if line.failed != UNDONE:
        return line
    if isinstance(line, Figures):
        return figures_of(child("job", line.file, line.name, line.threads, size))
    threads = named(curves_of(line.file, size), line.name).threads
    return slopes_of(
        asdict(line) | {"failed": None} | child("curve", line.file, line.name, threads, size)
    )


# ---------------------------------------------------------------- the command


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n")[0])
    sizes = parser.add_mutually_exclusive_group()
    for size, what in (("quick", "small sizes, three minutes"), ("full", "the largest sizes")):
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
    out = asked.out or (None if asked.only else RESULTS)
    if out == RESULTS and find_spec("matplotlib") is None:
        raise SystemExit("the page needs matplotlib: pip install -e '.[bench]', or give --out FILE")
    facts = machine() | {"size": asked.size}
    print(heading(facts), flush=True)
    found = asked_for(asked.only or names(), asked.size)
    try:
        measure(found, facts, asked.size)
    finally:  # what is done survives an interruption, and what is not has its line
        if out is not None:
            keep(out, as_json(facts, found))
    print(f"{facts['minutes']:.1f} minutes; figures in {out or 'no file'}")
    return int(any(f.failed and not f.failed.startswith("not here") for f in found))


def measure(found: list[Line], facts: dict, size: str) -> None:
    """Fill in the lines, one after another, and print them."""
    begun, last = time.perf_counter(), None
    for i, line in enumerate(found):
        if (line.file, type(line)) != last:
            last = line.file, type(line)
            print(f"-- {line.file}")
        found[i] = line = done(line, size)
        print("\n".join(lines(line)) if isinstance(line, Figures) else slope_line(line), flush=True)
        facts |= {"load_after": os.getloadavg()[0], "seconds": cpu_seconds()}
        facts |= {"minutes": (time.perf_counter() - begun) / 60}


def keep(out: Path, figures: dict) -> None:
    """The JSON and, where it is the page's, the page: both whole, at the same moment."""
    text = json.dumps(figures, indent=1) + "\n"
    if out == RESULTS:
        write_page(text)
    else:
        whole(out, text.encode())


def cpu_seconds() -> float:
    """Of all jobs together, what is not timed included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def as_json(facts: dict, found: list[Line]) -> dict:
    return {
        "machine": facts,
        "jobs": [asdict(f) for f in found if isinstance(f, Figures)],
        "growth": [asdict(f) for f in found if isinstance(f, Slope)],
    }


def ended(*_: object) -> None:
    """What is done is kept, undisturbed: `timeout` sends the signal twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, ended)
    sys.exit(main())
