"""What the trials say: a table beside the paper's claims, a figure, a page."""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import networks
import trials

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
RATIO = 0.835  # of the DNN's accuracy: the abstract of arXiv:2110.03403
CLOSE, VARIED = 1.0, 1.5  # points on the digits: DLGN to DNN; constant 1 and permuted to DLGN
ORDER = [
    "DNN",
    "DGN",
    "DGN, constant 1",
    "DLGN",
    "DLGN, constant 1",
    "DLGN, permuted",
    networks.HARDENED,
]
TITLES = {
    "digits": "Digits, fully connected",
    "cifar": "CIFAR-10 at 16 x 16, four convolutions",
    "c4gap": "CIFAR-10, C4GAP",
    "vgg": "CIFAR-10, like VGG-16",
    "resnet": "CIFAR-10, like ResNet-110",
}


@dataclass(frozen=True)
class Row:
    """One network over its seeds and orders: mean, standard deviation and number of trials."""

    model: str
    mean: float
    spread: float
    trials: int
    train: float
    seconds: float

    @property
    def text(self) -> str:
        """'97.51 ± 0.42'."""
        return f"{self.mean:.2f}" + ("" if self.trials < 2 else f" ± {self.spread:.2f}")


@dataclass(frozen=True)
class Claim:
    """A sentence about the means, what was found, and the least that it asks for."""

    text: str
    found: float
    least: float

    @property
    def holds(self) -> bool:
        return self.found >= self.least


def rows(found: list[trials.Trial]) -> dict[str, Row]:
    """model -> its row, for those that were run."""
    made = {}
    for model in ORDER:
        own = [t for t in found if t.model == model]
        if own:
            tests = [t.test for t in own]
            made[model] = Row(
                model,
                statistics.mean(tests),
                statistics.stdev(tests) if len(own) > 1 else math.nan,
                len(own),
                statistics.mean(t.train for t in own),
                statistics.mean(t.seconds for t in own),
            )
    return made


def claims(name: str, table: dict[str, Row]) -> list[Claim]:
    """What the paper says of these networks, as far as they were run."""
    varied = [m for m in ("DLGN, constant 1", "DLGN, permuted") if m in table]
    if "DNN" not in table or "DLGN" not in table:
        return []
    dnn, dlgn = table["DNN"].mean, table["DLGN"].mean
    if name == "digits":
        return [
            Claim("DLGN less DNN, points", dlgn - dnn, -CLOSE),
            *(Claim(f"{m} less DLGN, points", table[m].mean - dlgn, -VARIED) for m in varied),
        ]
    return [
        Claim(f"{m}: accuracy over the DNN's", table[m].mean / dnn, RATIO)
        for m in ("DLGN", *varied)
    ]


def expected(name: str, table: dict[str, Row]) -> list[tuple[str, float, float, float]]:
    """(model, mean, expected, tolerance) of the models in expected.csv that were run."""
    with (HERE / "expected.csv").open(newline="") as file:
        return [
            (r["model"], table[r["model"]].mean, float(r["test"]), float(r["tolerance"]))
            for r in csv.DictReader(file)
            if r["experiment"] == name and r["model"] in table
        ]


def say(name: str, found: list[trials.Trial], small: bool) -> list[bool]:
    """Print the table and the claims; what held. A small run is held to the claims alone."""
    table = rows(found)
    print("\n".join([TITLES[name], *lines(name, table)]))
    held = []
    for claim in claims(name, table):
        held.append(claim.holds)
        verdict = "holds" if claim.holds else "FAILS"
        print(f"{verdict}  {claim.text}: {claim.found:.3f}, at least {claim.least:g}")
    for model, mean, value, tolerance in [] if small else expected(name, table):
        held.append(abs(mean - value) <= tolerance)
        print(
            f"{'ok' if held[-1] else 'OUT':6} {model}: {mean:.2f}, expected {value} ± {tolerance}"
        )
    return held


def lines(name: str, table: dict[str, Row]) -> list[str]:
    """A markdown table: test accuracies, beside the DNN's and beside the paper's ratio."""
    compared = name != "digits"  # the paper has no digits
    heads = ["network", "test %", "trials", "train %", "less the DNN", "over the DNN's"]
    heads += ["the paper's", "difference", "CPU s"] if compared else ["CPU s"]
    cells = [heads, ["---"] * len(heads)]
    dnn = table["DNN"].mean if "DNN" in table else math.nan
    for row in table.values():
        share = row.mean / dnn
        told = "DLGN" in row.model and row.model != networks.HARDENED
        paper = [f"> {RATIO}", f"{share - RATIO:+.3f}"] if told else ["–", "–"]
        found = [row.model, row.text, f"{row.trials}", f"{row.train:.1f}"]
        found += [f"{row.mean - dnn:+.2f}", f"{share:.3f}", *(paper if compared else [])]
        cells.append([*found, f"{row.seconds:.0f}"])
    return ["| " + " | ".join(line) + " |" for line in cells]


def page(out: Path, small: bool) -> Path:
    """The page and the figure of all results in the folder `out`: the docs' own for `results`."""
    found = {name: rows(trials.read(out / f"{name}.csv")) for name in TITLES}
    found = {name: table for name, table in found.items() if table}
    parts = []
    for name, table in found.items():
        said = [
            f"- {c.text}: {c.found:.3f}, at least {c.least:g}: "
            f"**{'holds' if c.holds else 'fails'}**"
            for c in claims(name, table)
        ]
        parts.append("\n".join([f"## {TITLES[name]}", "", *lines(name, table), "", *said]))
    size = "A small run: its numbers say only that the order holds.\n\n" if small else ""
    text = (HERE / "page.md").read_text()
    text = text.replace("{size}", size).replace("{tables}", "\n\n".join(parts))
    kept = out == HERE / "results"  # else all in one folder
    target, picture = (DOCS / "explanation" / "dlgn.md", DOCS / "_static" / "dlgn.png")
    if not kept:
        target, picture = out / "page.md", out / "accuracies.png"
    draw(picture, found)
    target.write_text(text.replace("{picture}", "../_static/dlgn.png" if kept else picture.name))
    return target


def draw(path: Path, found: dict[str, dict[str, Row]]) -> None:
    """One panel a run: each network's mean test accuracy with its standard deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(found), 3.2), layout="constrained")
    for axes, (name, table) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        models = list(table)[::-1]
        means = [table[m].mean for m in models]
        spreads = [0 if math.isnan(table[m].spread) else table[m].spread for m in models]
        colours = ["C7" if m == "DNN" else "C1" if m.startswith("DGN") else "C0" for m in models]
        axes.errorbar(means, range(len(models)), xerr=spreads, fmt="none", ecolor="0.6", zorder=1)
        axes.scatter(means, range(len(models)), c=colours, zorder=2)
        if name != "digits" and "DNN" in table:
            axes.axvline(RATIO * table["DNN"].mean, color="C3", lw=1, ls="--")
            axes.set_xlabel("test accuracy, %; dashed: 83.5 % of the DNN's")
        else:
            axes.set_xlabel("test accuracy, %")
        axes.set_yticks(range(len(models)), models)
        axes.set_title(TITLES[name], fontsize=9)
    figure.savefig(path, dpi=110, facecolor="white", metadata={"Software": None})
