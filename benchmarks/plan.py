"""What a census of 10^9 and 10^12 rows would cost on 1, 10 and 1,000 machines.

    python benchmarks/plan.py [--quick] [--page]

Rates of one core by small runs of the real code; how distinct patterns grow with rows, on real
tables and networks; from both the plan, by closed forms (planning/model.py) and by a simulation of
the same census event by event (planning/simulation.py), which have to agree within TOLERANCE. All
goes to benchmarks/plan.json; --page makes it, and of it docs/explanation/scale.md and its picture
(--page --kept: of the figures that are there). Three minutes of CPU, 700 MB of disk, deleted after.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.planning.model import Cluster, Growth, Job, Rates, on_ray, stages, useful
from benchmarks.planning.simulation import simulate

RESULTS = Path(__file__).with_name("plan.json")
ROWS = (10**9, 10**12)
MACHINES = (1, 10, 1000)
KINDS = 1e6  # patterns there are, where they are saturated
TOLERANCE = 0.15  # of the total: closed form against the mean of the simulated runs
EVENTS = 1_500_000  # of all runs of a simulated plan together
RUNS = (3, 40)  # at least, at most


def jobs(size: str) -> list:
    """None: there is no floor to a plan."""
    return []


def median(lines: list[dict]) -> dict:
    """The real table with the median beta."""
    tables = sorted((line for line in lines if not line["drawn"]), key=lambda line: line["beta"])
    return tables[len(tables) // 2]


def growths(lines: list[dict]) -> list[Growth]:
    """Saturated, Heaps' law as the median of the tables has it, all different."""
    middle = median(lines)
    return [
        Growth("saturated", kinds=KINDS),
        Growth("Heaps", k=middle["k"], beta=middle["beta"]),
        Growth("all different"),
    ]


def planned(job: Job, runs: tuple[int, int] = RUNS, events: int = EVENTS) -> dict:
    """One census: what it needs, what it takes by arithmetic and by simulation."""
    count = int(np.clip(events // (job.tasks + job.cluster.workers), *runs))
    seen = [simulate(job, seed) for seed in range(count)]
    costs = job.map_costs()
    found = {
        "rows": job.rows,
        "machines": job.cluster.machines,
        "growth": job.growth.name,
        "piece": job.piece,
        "patterns": job.growth(job.rows),
        "limit": max(costs, key=costs.get),
        "map_costs": costs,
        "runs": count,
        "lost": float(np.mean([s[True].lost for s in seen])),
        "on ray": on_ray(job),
    }
    for name, tree in (("tree", True), ("ranges", False)):
        totals = [s[tree].total for s in seen]
        error = float(np.std(totals, ddof=1) / count**0.5)
        found[name] = stages(job, tree) | {"simulated": float(np.mean(totals)), "error": error}
    return found


def plan(rates: Rates, lines: list[dict], runs: tuple[int, int] = RUNS) -> list[dict]:
    """Every number of rows, of machines, every growth."""
    return [
        planned(Job(rows, growth, rates, Cluster(machines)), runs)
        for rows in ROWS
        for machines in MACHINES
        for growth in growths(lines)
    ]


def saturation(rates: Rates, lines: list[dict]) -> list[dict]:
    """Machines that still help, and what the time is then spent on."""
    found = []
    for rows in ROWS:
        for growth in growths(lines):
            line = {"rows": rows, "growth": growth.name}
            for name, tree in (("tree", True), ("ranges", False)):
                job = Job(rows, growth, rates, Cluster(1))
                count = useful(job, tree)
                parts = stages(replace(job, cluster=Cluster(count)), tree)
                total = parts.pop("total")
                line[name] = {"machines": count, "seconds": total, "parts": parts}
            found.append(line)
    return found


def agreement(rows: list[dict]) -> dict[str, float]:
    """The largest departure of the closed form from the simulated mean, of the whole."""
    gaps = [abs(r[n]["total"] / r[n]["simulated"] - 1) for r in rows for n in ("tree", "ranges")]
    return {"largest": max(gaps), "median": float(np.median(gaps)), "tolerance": TOLERANCE}


def made(quick: bool) -> dict:
    """All figures."""
    from benchmarks.machine import machine
    from benchmarks.planning import growth, rates

    begin = time.process_time()
    found = rates.measured(1 << 17 if quick else 1 << 20)
    names = Rates.__dataclass_fields__
    measured = Rates(**{name: found[name] for name in names})
    lines = growth.measured(small=quick)
    rows = plan(measured, lines, (2, 3) if quick else RUNS)
    return {
        "machine": machine(),
        "rates": found,
        "cluster": asdict(Cluster(1)),
        "growth": lines,
        "orders": growth.ORDERS,
        "median": median(lines)["name"],
        "growths": [asdict(g) for g in growths(lines)],
        "plan": rows,
        "saturation": saturation(measured, lines),
        "agreement": agreement(rows),
        "cpu_s": time.process_time() - begin,
    }


def main() -> int:
    """Measure, plan, write; 1 if arithmetic and simulation do not agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute, of few rows: no figures")
    parser.add_argument("--page", action="store_true", help="write docs/explanation/scale.md, too")
    parser.add_argument("--kept", action="store_true", help="of the figures in plan.json")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if not args.kept:
        args.out.write_text(json.dumps(made(args.quick), indent=1) + "\n")
    found = json.loads(args.out.read_text())
    if args.page:
        from benchmarks.planning.page import write

        print(write(found))
    gap = found["agreement"]
    print(
        f"closed form and simulation: at most {gap['largest']:.1%} apart, {gap['median']:.1%} usual"
    )
    return int(gap["largest"] > gap["tolerance"])


if __name__ == "__main__":
    sys.exit(main())
