"""Reproduces the image figures of "Bilinear MLPs enable weight-based mechanistic interpretability".

    python experiments/pearce2025bilinear/run.py --small
    python experiments/pearce2025bilinear/run.py --full
    python experiments/pearce2025bilinear/run.py --full --figure masks
    python experiments/pearce2025bilinear/run.py --page

--small (few rows, small networks) writes nothing into the repository and ends with 1
unless the orders hold. --full learns what config.toml says, or only some figures, and writes
`results`; with --paper the published settings (hours) and no results into the repository unless
--out is given. What --work holds is not learnt again. --page makes page and pictures of `results`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
FIGURES = ("eigenvectors", "masks", "challenge", "similarity", "sparsity", "augment", "gates")


def main(arguments: list[str] | None = None) -> int:
    """0 if every check holds."""
    from command_line import begun, command

    parser = command(
        __doc__,
        small="seconds; asserts the orders",
        full="25 minutes of CPU; writes results",
        page="page and pictures of the results",
    )
    parser.add_argument("--paper", action="store_true", help="with --full: the published settings")
    parser.add_argument("--figure", choices=FIGURES, action="append", help="only this; repeatable")
    parser.add_argument("--work", type=Path, help="folder of what was learnt")
    asked, config, results = begun(parser, arguments, HERE)
    if asked.paper and not (asked.full and asked.out):
        parser.error("--paper goes with --full and --out: the kept results are of --full alone")
    if asked.page:
        return page(config, results, asked.out)
    if asked.small:
        return small(config)
    work = asked.work or Path(tempfile.gettempdir()) / "gatewise-pearce"
    settings = config["paper" if asked.paper else "full"]
    return full({**settings, "toy": config["toy"]}, asked.figure or FIGURES, work, results)


def small(config: dict) -> int:
    """The orders of the figures, on few rows and small networks."""
    import experiment
    import tables
    from reporting import Check, verdict

    experiment.quiet()
    numbers: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for figure in config["small"]["figures"]:
            found = experiment.run(config["small"], figure, Path(folder))
            numbers |= tables.orders(found.tables)
    floors = config["small"]["floors"]
    return verdict([Check(n, numbers[n], f, float("nan")) for n, f in floors.items()])


def full(c: dict, figures, work: Path, results: Path) -> int:
    """Figure by figure; each writes its tables and pictures as soon as it is done."""
    import experiment
    import tables
    from reporting import read_checks, verdict, write_rows

    experiment.quiet()
    for figure in figures:
        found = experiment.toy(c["toy"]) if figure == "gates" else experiment.run(c, figure, work)
        for name, rows in found.tables.items():
            print("wrote", write_rows(results / f"{name.replace(' ', '_')}.csv", rows), flush=True)
        if found.pictures:
            experiment.keep_pictures(results / f"{figure}.npz", found.pictures)
    numbers = tables.orders(tables.read(results))
    return verdict([x for x in read_checks(HERE / "published.csv", numbers) if x.name in numbers])


def page(config: dict, results: Path, out: Path | None) -> int:
    """docs/explanation/pearce.md and its pictures, of what lies in `results`."""
    import drawing
    import experiment
    import fields
    import tables
    from reporting import PAGES, PICTURES, write_picture, write_section

    found = tables.read(results)
    target, folder = (PAGES, PICTURES) if out is None else (out, out / "_static")
    text = (HERE / "runs.md").read_text().format(**fields.fields(found, config))
    print("wrote", write_section(target / "pearce.md", HERE / "page.md", "runs", text))
    pictures = {
        name: held
        for file in sorted(results.glob("*.npz"))
        for name, held in experiment.kept_pictures(file).items()
    }
    for name, figure in drawing.pictures(found, pictures).items():
        print("wrote", write_picture(folder, f"pearce_{name}", figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
