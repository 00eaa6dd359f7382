"""What was found beside what was published, as checks and as tables."""

from __future__ import annotations

import csv
from pathlib import Path

from reporting import Check, Row, markdown, read_rows

READ_OFF = 0.01  # how well a figure can be read
TRIALS = {"figure": 100, "again": 1000}
Known = dict[tuple[str, float, int], float]


def known(path: Path) -> Known:
    """(source, noise, depth) -> D."""
    with path.open(newline="") as file:
        return {
            (r["source"], float(r["noise"]), int(r["depth"])): float(r["D"])
            for r in csv.DictReader(file)
        }


def tolerance(row: Row, source: str) -> float:
    """Three standard errors of the difference: ours, and theirs from our trials' deviation.

    To it comes what cannot be read off a figure, or half a last digit.
    """
    error = float(row["D se"])
    theirs = error * (int(row["trials"]) / TRIALS[source]) ** 0.5
    return 3 * (error**2 + theirs**2) ** 0.5 + (READ_OFF if source == "figure" else 5e-5)


def checks(figures: list[Row], path: Path) -> list[Check]:
    """D of every noise and depth that there is, beside each known value."""
    found = []
    for (source, noise, depth), D in known(path).items():
        for row in figures:
            if (row["noise"], row["depth"]) == (noise, depth):
                name = f"D, noise {noise:g}, depth {depth} ({source})"
                found.append(Check(name, float(row["D"]), D, tolerance(row, source)))
    return found


def rate_checks(figures: list[Row]) -> list[Check]:
    """Ten times the rate takes depth 5 from 0.14 to 0.015 (an independent program, 100 trials)."""
    expected = {1e-3: 0.143, 1e-2: 0.015}
    return [
        Check(f"D, noise 0.3, depth 5, rate {r['rate']:g}", float(r["D"]), expected[r["rate"]],
              3 * float(r["D se"]) * 11**0.5)
        for r in figures
        if r["depth"] == 5 and r["rate"] in expected
    ]  # fmt: skip


def pm(row: Row, name: str, digits: int = 3) -> str:
    """Mean ± standard error."""
    return f"{row[name]:.{digits}f} ± {row[f'{name} se']:.{digits}f}"


def depth_table(figures: list[Row], path: Path) -> str:
    """A line a depth; the published value, ours, and the difference where there is one."""
    theirs, lines = known(path), []
    noises = list(dict.fromkeys(r["noise"] for r in figures))
    for depth in dict.fromkeys(r["depth"] for r in figures):
        line: dict[str, object] = {"depth": depth}
        for noise in noises:
            row = next(r for r in figures if (r["noise"], r["depth"]) == (noise, depth))
            value = theirs.get(("figure", noise, depth))
            if value is not None:
                line[f"noise {noise:g}: published"] = f"{value:.2f}"
                line[f"{noise:g}: here"] = pm(row, "D")
                line[f"{noise:g}: difference"] = f"{row['D'] - value:+.3f}"
            else:
                line[f"noise {noise:g}: here"] = pm(row, "D")
        lines.append(line)
    return markdown(lines)


def error_table(figures: list[Row], noise: float) -> str:
    """Training and validation error, of the chain and of least squares; who is stuck."""
    return markdown(
        [
            {
                "depth": r["depth"],
                "training error": pm(r, "train"),
                "validation error": pm(r, "test"),
                "at the optimum": f"{r['least train']:.3f} / {r['least test']:.3f}",
                "converged": f"{r['converged']:.1%}",
                "stuck, right sign": percent(r["stuck, right sign"]),
                "stuck, wrong sign": percent(r["stuck, wrong sign"]),
            }
            for r in figures
            if r["noise"] == noise
        ]
    )


def percent(value: object) -> str:
    """A share, or a dash where there is none."""
    return "-" if value != value else f"{float(str(value)):.1%}"


def rate_table(figures: list[Row]) -> str:
    """A line a depth, a column a rate."""
    lines = []
    for depth in dict.fromkeys(r["depth"] for r in figures):
        mine = [r for r in figures if r["depth"] == depth]
        cells = {f"rate {r['rate']:g}": pm(r, "D") + gone(r) for r in mine}
        lines.append({"depth": depth, **cells})
    return markdown(lines)


def gone(row: Row) -> str:
    """How many trials have no D."""
    share = float(row["diverged"])
    return f" ({share:.1%} diverged)" if share else ""


def beyond_table(figures: list[Row], rates: list[Row], rate: float) -> str:
    """A line a setting, the published one first."""
    depths = list(dict.fromkeys(r["depth"] for r in figures))
    lines: list[dict[str, object]] = []
    plain = {r["depth"]: pm(r, "D") for r in rates if r["rate"] == rate}
    lines.append({"": "as published", **{f"depth {d}": plain[d] for d in depths}})
    for name in dict.fromkeys(r["setting"] for r in figures):
        mine = {r["depth"]: pm(r, "D") + gone(r) for r in figures if r["setting"] == name}
        lines.append({"": name, **{f"depth {d}": mine[d] for d in depths}})
    return markdown(lines)


def read(folder: Path) -> dict[str, list[Row]]:
    """The five tables of a full run."""
    names = ("depths", "curves", "rates", "rate_curves", "beyond")
    return {name: read_rows(folder / f"{name}.csv") for name in names}


def fields(found: dict[str, list[Row]], config: dict, path: Path) -> dict[str, str]:
    """What the words of the page leave open."""
    figures, rates = found["depths"], found["rates"]
    noise, lr = config["figure"]["noise"], config["run"]["lr"]
    deep = next(r for r in figures if (r["noise"], r["depth"]) == (noise, 10))
    every = checks(figures, path)
    return {
        "depths": depth_table(figures, path),
        "errors": error_table(figures, noise),
        "rates": rate_table(rates),
        "beyond": beyond_table(found["beyond"], rates, lr),
        "noise": f"{noise:g}",
        "ok": f"{sum(c.ok for c in every if 'figure' in c.name)}",
        "of": f"{sum('figure' in c.name for c in every)}",
        "cpu": f"{sum(float(r['cpu']) for r in figures):.0f}",
        "strict": f"{deep['strict']:.1%}",
        "bend": f"{abs(float(deep['bend'])):.1%}",
        "five_slow": next(pm(r, "D") for r in rates if (r["rate"], r["depth"]) == (lr, 5)),
        "five_fast": next(pm(r, "D") for r in rates if (r["rate"], r["depth"]) == (10 * lr, 5)),
    }
