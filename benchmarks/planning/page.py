"""docs/explanation/scale.md and its picture, from the figures of benchmarks/plan.json."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from string import Template

from benchmarks.planning.model import PARTS, Cluster, Growth, Job, Rates, on_ray, stages

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "scale.md"
PICTURE = ROOT / "docs" / "_static" / "scale.png"
MAP_BYTES = 4 * (1 << 24) + 3 * (1 << 26)  # of a process: blocks read ahead, a run and its sort
WAYS = ("tree", "ranges")
STEPS = {
    "reading Parquet, 20 columns of float64": ("read", "row"),
    "deciding every gate (2 × 40) and packing": ("decide", "row"),
    "beside it: the bare forward pass": ("forward", "row"),
    "grouping by hash": ("group", "row"),
    "writing a run": ("spill", "distinct pattern of the run"),
    "merging runs": ("merge", "pattern merged"),
    "ranking, writing the answer": ("final", "distinct pattern"),
    "writing each row's cluster": ("ids", "row"),
}


# ---------------------------------------------------------------- cells


def seconds(t: float) -> str:
    """`8.1 s`, `3.2 min`, `4.5 h`, `12 days`."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if t >= 1.5 * size:
            return f"{number(t / size)} {unit}"
    return f"{number(t)} s"


def size(n: float) -> str:
    """`160 GB`."""
    for unit, power in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= power:
            return f"{number(n / power)} {unit}"
    return f"{number(n)} B"


def number(x: float) -> str:
    """Two or three digits."""
    return f"{x:,.0f}" if x >= 20 else f"{x:.2g}" if x < 1 else f"{x:.1f}"


def ten(n: float) -> str:
    """`10⁹`; `6.2 · 10¹⁰`."""
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    lead, _, exponent = f"{n:.1e}".partition("e")
    whole = "10" + str(int(exponent)).translate(digits)
    return whole if lead == "1.0" else f"{lead} · {whole}"


def table(rows: list[dict[str, object]]) -> str:
    """Markdown of rows of {heading: cell}."""
    return "\n".join(
        map(line, [list(rows[0]), ["---"] * len(rows[0]), *(r.values() for r in rows)])
    )


def line(cells) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


# ---------------------------------------------------------------- the page


def write(found: dict) -> Path:
    """The page and the picture."""
    picture(found)
    parts = facts(found) | {
        "rates": rates(found),
        "growth": growth(found),
        "patterns": patterns(found),
        "times": times(found),
        "saturation": saturation(found),
        "needs": needs(found),
    }
    template = Template(Path(__file__).with_name("template.md").read_text())
    PAGE.write_text(template.substitute(parts))
    return PAGE


def facts(found: dict) -> dict[str, str]:
    """Single figures in the text."""
    r, c, gap = found["rates"], Cluster(**found["cluster"]), found["agreement"]
    growths = {g["name"]: g for g in found["growths"]}
    limits = Counter(p["limit"] for p in found["plan"] if p["rows"] == 10**12)
    costs = found["plan"][-1]["map_costs"]
    return {
        "cpu": found["machine"]["cpu"],
        "date": found["machine"]["date"],
        "row_bytes": f"{r['row_bytes']:.0f}",
        "pattern_bytes": f"{r['pattern_bytes']:.0f}",
        "id_bytes": f"{r['id_bytes']:.0f}",
        "disk": size(r["disk"]),
        "start": seconds(r["start"]),
        "census": f"{1e9 * r['census']:,.0f}",
        "census_few": f"{1e9 * r['census_few']:,.0f}",
        "cores": str(c.cores),
        "memory": size(c.memory),
        "net": f"{8 * c.net / 1e9:.0f}",
        "dispatch": f"{1 / c.dispatch:,.0f}",
        "message": f"{1e3 * c.message:.0f}",
        "sigma": f"{c.sigma:.1f}",
        "restart": seconds(c.restart),
        "orders": str(found["orders"]),
        "kinds": ten(growths["saturated"]["kinds"]),
        "median": found["median"],
        "heaps_k": number(growths["Heaps"]["k"]),
        "heaps_beta": f"{growths['Heaps']['beta']:.2f}",
        "bytes_9": size(1e9 * r["row_bytes"]),
        "bytes_12": size(1e12 * r["row_bytes"]),
        "gap": f"{gap['largest']:.0%}",
        "gap_median": f"{gap['median']:.1%}",
        "tolerance": f"{gap['tolerance']:.0%}",
        "limit": ", ".join(
            f"the {name} (in {n} of {limits.total()} cases)" for name, n in limits.items()
        ),
        "piece": f"{found['plan'][-1]['piece']:,}",
        "piece_cores": seconds(costs["cores"]),
        "piece_network": seconds(costs["network"]),
        "piece_disk": seconds(costs["disk"]),
        "map_each": size(MAP_BYTES),
    }


def rates(found: dict) -> str:
    return table(
        [
            {"one core, measured": name, "ns": number(1e9 * found["rates"][key]), "for each": each}
            for name, (key, each) in STEPS.items()
        ]
    )


def growth(found: dict) -> str:
    return table(
        [
            {
                "rows of": each["name"],
                "rows": f"{each['rows']:,.0f}",
                "gates": each["gates"],
                "distinct patterns": f"{each['distinct']:,.0f}",
                "β": f"{each['beta']:.2f}",
                "K": number(each["k"]),
                "an eighth foretells": f"{each['predicted']:.2f} ×",
            }
            for each in found["growth"]
        ]
    )


def patterns(found: dict) -> str:
    lines = []
    for g in found["growths"]:
        counts = [growth_of(found, g["name"])(n) for n in (1e9, 1e12)]
        cells = [(ten(d), size(d * found["rates"]["pattern_bytes"])) for d in counts]
        lines.append(line([g["name"], *cells[0], *cells[1]]))
    return "\n".join(lines)


def times(found: dict) -> str:
    return table(
        [
            {
                "rows": ten(p["rows"]),
                "machines": f"{p['machines']:,}",
                "patterns": p["growth"],
                "map": f"{seconds(p['ranges']['map'])} ({p['limit']})",
                "all, by tree": both(p["tree"]),
                "all, by ranges": both(p["ranges"]),
                'as `engine="ray"` does it': seconds(p["on ray"]["total"]),
            }
            for p in found["plan"]
        ]
    )


def both(t: dict) -> str:
    """Closed form; simulated."""
    error = t["error"] / t["simulated"]
    return f"{seconds(t['total'])}; {seconds(t['simulated'])} ± {error:.1%}"


def saturation(found: dict) -> str:
    lines = []
    for s in found["saturation"]:
        cells: dict[str, object] = {"rows": ten(s["rows"]), "patterns": s["growth"]}
        for name in WAYS:
            parts = s[name]["parts"]
            most = max(parts, key=parts.get)
            cells[f"{name}: machines"] = f"{s[name]['machines']:,}"
            cells[f"{name}: time"] = seconds(s[name]["seconds"])
            cells[f"{name}: most of it"] = f"{most} ({parts[most] / s[name]['seconds']:.0%})"
        lines.append(cells)
    return table(lines)


def needs(found: dict) -> str:
    r, lines = found["rates"], []
    for p in found["plan"]:
        job = job_of(found, p["rows"], p["growth"], p["machines"])
        runs = job.share / job.piece * job.growth(job.piece) * r["pattern_bytes"]
        merging = 3 * job.growth(job.share) * r["pattern_bytes"] / PARTS
        piece = job.piece * r["id_bytes"] + job.growth(job.piece) * r["pattern_bytes"]
        lines.append(
            {
                "rows": ten(p["rows"]),
                "machines": f"{p['machines']:,}",
                "patterns": p["growth"],
                "memory, map": size(job.cluster.cores * MAP_BYTES),
                "memory, merge": size(merging) + " (!)" * (merging > job.cluster.memory),
                "spilled": size(runs + job.share * r["id_bytes"]),
                "a checkpoint": size(piece),
                "of the map": f"{written(job):.0%}",
                "a piece": seconds(job.task),
            }
        )
    return table(lines)


def written(job: Job) -> float:
    """The share of the map that writing runs takes: of the cores, or of the disk."""
    spilling = job.growth(job.piece) * job.rates.spill
    return max(spilling, job.map_costs()["disk"]) / job.task


def growth_of(found: dict, name: str) -> Growth:
    return Growth(**next(g for g in found["growths"] if g["name"] == name))


def job_of(found: dict, rows: float, name: str, machines: int) -> Job:
    fields = {field: found["rates"][field] for field in Rates.__dataclass_fields__}
    return Job(rows, growth_of(found, name), Rates(**fields), Cluster(machines))


# ---------------------------------------------------------------- the picture


def picture(found: dict) -> None:
    """Time of 10^12 rows against machines, a colour a growth, a dash a way."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    machines = [2**k for k in range(15)]
    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for g, colour in zip(found["growths"], ("#1b7837", "#2166ac", "#b2182b"), strict=True):
        plans = [job_of(found, 1e12, g["name"], m) for m in machines]
        for tree, dash in ((True, "--"), (False, "-")):
            label = f"{g['name']}, {'tree' if tree else 'ranges'}"
            totals = [stages(job, tree)["total"] for job in plans]
            axes.loglog(machines, totals, dash, color=colour, label=label, lw=1.6)
        axes.loglog(machines, [on_ray(j)["total"] for j in plans], ":", color=colour, lw=1.2)
        for p in found["plan"]:
            if p["growth"] == g["name"] and p["rows"] == 10**12:
                seen = [p[name]["simulated"] for name in WAYS]
                axes.plot([p["machines"]] * 2, seen, "o", color=colour, ms=4)
    axes.plot([], [], ":", color="grey", label='as engine="ray" does it')
    axes.plot([], [], "o", color="grey", ms=4, label="simulated")
    axes.set(xlabel="machines of 16 cores", ylabel="time of 10¹² rows", xlim=(1, machines[-1]))
    axes.set_yticks([60, 600, 3600, 36_000, 864_000], ["1 min", "10 min", "1 h", "10 h", "10 days"])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    figure.savefig(PICTURE, dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)
