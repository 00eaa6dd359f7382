"""Reproduces the figures of "A Novel Explanation Against Linear Neural Networks".

    python experiments/lakkapragada2023linear/run.py --small
    python experiments/lakkapragada2023linear/run.py --full
    python experiments/lakkapragada2023linear/run.py --page

--small (200 trials, four depths) writes nothing into the repository. --full runs everything and
writes `results`. --page makes page and picture of them. Each ends with 1 if a value is out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
KNOWN = HERE / "published.csv"


def main(arguments: list[str] | None = None) -> int:
    """0 if every check holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--small", action="store_true", help="a few seconds; writes nothing")
    size.add_argument("--full", action="store_true", help="as published; writes results")
    size.add_argument("--page", action="store_true", help="page and picture of the results")
    parser.add_argument("--out", type=Path, help="write here and leave the repository as it is")
    asked = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch is not here yet

    config = tomllib.loads((HERE / "config.toml").read_text())
    results = HERE / "results" if asked.out is None else asked.out / "results"
    if asked.small:
        return small(config)
    return full(config, results) if asked.full else page(config, results, asked.out)


def small(config: dict) -> int:
    """D of a few depths, beside the values of an independent program."""
    import protocol
    import tables
    from reporting import verdict

    c = config["small"]
    figures, _ = protocol.published(config["run"], c["noises"], c["depths"], c["trials"])
    return verdict(tables.checks(figures, KNOWN))


def full(config: dict, results: Path) -> int:
    """The published table, the rates, and what lies beyond."""
    import protocol
    import tables
    import torch
    from reporting import verdict, write_rows

    torch.set_num_threads(1)
    c = config["run"]
    begun, wall = time.process_time(), time.perf_counter()
    figures, curves = protocol.published(c, c["noises"], c["depths"], c["trials"])
    cpu, wall = time.process_time() - begun, time.perf_counter() - wall
    print(f"the published table: {cpu:.0f} CPU s, {wall:.0f} s", flush=True)
    rates, rate_curves = protocol.rates(config, c["trials"])
    shown = config["figure"]
    found = {
        "depths": figures,
        "curves": [r for r in curves if r["noise"] == shown["noise"]],
        "rates": rates,
        "rate_curves": [r for r in rate_curves if r["depth"] in shown["depths"]],
        "beyond": protocol.beyond(config, c["trials"]),
    }
    for name, rows in found.items():
        print("wrote", write_rows(results / f"{name}.csv", rows))
    return verdict(tables.checks(figures, KNOWN) + tables.rate_checks(rates))


def page(config: dict, results: Path, out: Path | None) -> int:
    """docs/explanation/lakkapragada.md and its picture, of what lies in `results`."""
    import tables
    from drawing import picture
    from reporting import PAGES, PICTURES, write_picture, write_section

    found = tables.read(results)
    where = PAGES if out is None else out
    target = where / "lakkapragada.md"
    pictures = PICTURES if out is None else out / "_static"
    text = (HERE / "runs.md").read_text().format(**tables.fields(found, config, KNOWN))
    figure = picture(found, tables.known(KNOWN))
    print("wrote", write_section(target, HERE / "page.md", "runs", text))
    print("wrote", write_picture(pictures, "lakkapragada", figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
