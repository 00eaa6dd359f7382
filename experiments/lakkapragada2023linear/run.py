"""Reproduces the figures of "A Novel Explanation Against Linear Neural Networks".

    python experiments/lakkapragada2023linear/run.py --small
    python experiments/lakkapragada2023linear/run.py --full
    python experiments/lakkapragada2023linear/run.py --page

--small (200 trials, four depths) writes nothing into the repository. --full runs everything and
writes `results`. --page makes page and picture of them. Each ends with 1 if a value is out.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
KNOWN = HERE / "published.csv"


def main(arguments: list[str] | None = None) -> int:
    """0 if every check holds."""
    from command_line import begun, command

    parser = command(
        __doc__,
        small="a few seconds; writes nothing",
        full="as published; writes results",
        page="page and picture of the results",
    )
    asked, config, results = begun(parser, arguments, HERE)
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
