"""The parts, run small or in full; the page, made of the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import alignment
import conv
import mnist
import torch
from drawing import curves_picture, nu_picture
from reporting import (
    PAGES,
    PICTURES,
    Check,
    Row,
    markdown,
    read_checks,
    read_rows,
    verdict,
    write_picture,
    write_rows,
    write_section,
)
from tables import (
    conv_table,
    curve_rows,
    honest,
    mnist_numbers,
    mnist_rows,
    mnist_table,
    nu_means,
)

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Settings:
    """How to run, as the command line says."""

    config: dict
    small: bool
    device: str
    work: Path
    so_far: bool
    threads: int
    out: Path | None

    def of(self, part: str) -> dict:
        """The part's table of the config, with the small run's changes."""
        c = self.config[part]
        return {**c, **(c["small"] if self.small else {})}


def run(parts: list[str], s: Settings) -> int:
    """Every part; 0 if its checks hold. Denormals become 0: they are slow, and soft gates' many."""
    torch.set_num_threads(s.threads)
    torch.set_flush_denormal(True)
    results = HERE / "results" if s.out is None else s.out / "results"
    checks: list[Check] = []
    for part in parts:
        tables, numbers = RUNS[part](s)
        if s.small:
            checks += [Check(name, value, 0.0, float("nan")) for name, value in numbers.items()]
            continue
        for name, rows in tables.items():
            print("wrote", write_rows(results / f"{name}.csv", rows))
        checks += [c for c in read_checks(HERE / "published.csv", numbers) if c.name in numbers]
    return verdict(checks)


def run_mnist(s: Settings) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """Tables by name, and the numbers to check; of a small run, what must be above what."""
    c = s.of("mnist")
    data = mnist.load(c.get("rows"))
    if s.small:
        with TemporaryDirectory() as folder:
            found = mnist.protocol(c, data, Path(folder))
        rows = mnist_rows(found)
        print(mnist_table(rows))
        means = mnist_numbers(rows)
        names = ("FLNPF", "ReLU", "DNPFL")
        return {}, {f"{n} above FRNPF-II": means[n] - means["FRNPF-II"] for n in names}
    found = mnist.protocol(c, data, s.work, 0 if s.so_far else None)
    rows = mnist_rows(found)
    print(mnist_table(rows))
    return {"mnist": rows, "mnist_curves": curve_rows(found)}, mnist_numbers(rows)


def run_alignment(s: Settings) -> tuple[dict[str, list[Row]], dict[str, float]]:
    c = s.of("alignment")
    pair = alignment.load(c["shown"])
    rows = [row for seed in c["seeds"] for row in alignment.curve(c, pair, seed)]
    _, mean, _ = nu_means(rows)
    print("nu by pass:", " ".join(f"{v:.0f}" for v in mean))
    return {"alignment": rows}, {"nu at the end below nu at the start": mean[0] - mean[-1]}


def run_conv(s: Settings) -> tuple[dict[str, list[Row]], dict[str, float]]:
    c = s.of("conv")
    data = conv.load(c["size"], c.get("rows"), s.device)
    print(f"CIFAR-10: {len(data.x)} training and {len(data.test_x)} test images on {s.device}")
    rows, steps = [], []
    for name in c["nets"]:
        net = {**c, "net": name, "pooled": name == "GCONV", "epochs": c["epochs"][name]}
        for seed in c["seeds"]:
            rows += conv.rows(net, data, seed)
            if c["stages"] and net["pooled"]:
                steps += conv.stepwise(net, data, seed)
        print(conv_table(rows, name))
    if s.small:
        return {}, {}  # in so few passes the regimes come in no order: see README.md
    means = {r["regime"]: float(r["best"]) for r in rows if r["net"] == "GCONV"}
    above = {f"GCONV {n} above FRNPF-II": means[n] - means["FRNPF-II"] for n in ("FLNPF", "ReLU")}
    return {"conv": rows, **({"stepwise": steps} if steps else {})}, above


RUNS = {"mnist": run_mnist, "alignment": run_alignment, "conv": run_conv}


def page(out: Path | None) -> int:
    """docs/explanation/npf.md and its pictures, of what lies in `results`."""
    results = HERE / "results" if out is None else out / "results"
    target, pictures = (
        (PAGES / "npf.md", PICTURES) if out is None else (out / "npf.md", out / "_static")
    )
    rows, curves = (read_rows(results / f"{n}.csv") for n in ("mnist", "mnist_curves"))
    text = (HERE / "mnist.md").read_text()
    filled = text.format(table=mnist_table(rows), checks=checks_table(rows), **honest(rows))
    paths = [
        write_section(target, HERE / "page.md", "mnist", filled),
        write_picture(pictures, "npf_mnist", curves_picture(curves)),
    ]
    if (results / "alignment.csv").exists():
        rows = read_rows(results / "alignment.csv")
        _, mean, _ = nu_means(rows)
        text = (HERE / "alignment.md").read_text()
        filled = text.format(first=mean[0], last=mean[-1], runs=len({r["seed"] for r in rows}))
        paths += [
            write_section(target, HERE / "page.md", "alignment", filled),
            write_picture(pictures, "npf_alignment", nu_picture(rows)),
        ]
    for path in paths:
        print("wrote", path)
    return 0


def checks_table(rows: list[Row]) -> str:
    """By how much each regime is above the one below it."""
    numbers = mnist_numbers(rows)
    checks = read_checks(HERE / "published.csv", numbers)
    order = [c for c in checks if " above " in c.name and c.name in numbers]
    return markdown([{"order": c.name, "by, points": f"{c.value:+.2f}"} for c in order])
