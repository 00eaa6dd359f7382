"""Reproduces the synthetic table of "Deep Networks Learn Features From Local Discontinuities".

    python experiments/dlgn2025oblique/run.py --small
    python experiments/dlgn2025oblique/run.py --full
    python experiments/dlgn2025oblique/run.py --page

--small (SDI, a twelfth of the passes) writes nothing into the repository and ends with 1 unless a
DLGN-SF is far above a linear model. --full learns all of it, or the data sets named by --data, and
writes `results`; what --work holds is not learnt again. --page makes page and picture of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
SETS = ("SDI", "SDII", "SDIII")


def main(arguments: list[str] | None = None) -> int:
    """0 if every check holds."""
    from command_line import begun, command

    parser = command(
        __doc__,
        small="a minute; asserts DLGN-SF >> linear",
        full="as published; writes results",
        page="page and picture of the results",
    )
    parser.add_argument("--data", choices=SETS, action="append", help="only this; may be repeated")
    parser.add_argument("--work", type=Path, help="folder of what was learnt")
    asked, config, results = begun(parser, arguments, HERE)
    if asked.page:
        return page(config, results, asked.out)
    if asked.small:
        return small(config)
    work = asked.work or Path(tempfile.gettempdir()) / "gatewise-oblique"
    return full(config, asked.data or list(SETS), work, results)


def small(config: dict) -> int:
    """DLGN-SF must be 15 points above a linear model, DLGN 5, on a fraction of the passes."""
    import experiment
    from reporting import Check, verdict

    experiment.quiet()
    c = config["small"]
    with tempfile.TemporaryDirectory() as folder:
        found = experiment.run(config, c["data"], c["epochs"], c["seeds"], Path(folder))
    print(experiment.table(found.runs))
    means = experiment.numbers(found.runs)
    floors = {"SDI DLGN-SF above linear": 0.15, "SDI DLGN above linear": 0.05}
    return verdict([Check(name, means[name], f, float("nan")) for name, f in floors.items()])


def full(config: dict, data: list[str], work: Path, results: Path) -> int:
    """The published runs; rows of other data sets stay in the results as they are."""
    import experiment
    from reporting import read_checks, read_rows, verdict, write_rows

    experiment.quiet()
    c = config["run"]
    found = experiment.run(config, data, c["epochs"], c["seeds"], work)
    for name, new in (("runs", found.runs), ("curves", found.curves), ("angles", found.angles)):
        path = results / f"{name}.csv"
        kept = [r for r in read_rows(path) if r["data"] not in data] if path.exists() else []
        order = sorted(kept + new, key=lambda r: SETS.index(str(r["data"])))
        print("wrote", write_rows(path, order))
    means = experiment.numbers(found.runs)
    print(experiment.table(found.runs))
    return verdict([x for x in read_checks(HERE / "published.csv", means) if x.name in means])


def page(config: dict, results: Path, out: Path | None) -> int:
    """docs/explanation/oblique.md and its picture, of what lies in `results`."""
    import experiment
    from data import generate
    from drawing import picture
    from reporting import PAGES, PICTURES, read_rows, write_picture, write_section

    runs, curves, angles = (read_rows(results / f"{n}.csv") for n in ("runs", "curves", "angles"))
    target, pictures = (
        (PAGES / "oblique.md", PICTURES) if out is None else (out / "oblique.md", out / "_static")
    )
    words = (HERE / "runs.md").read_text()
    text = words.format(table=experiment.table(runs), planes=experiment.plane_table(runs))
    sample = generate(16, config["data"]["SDI"]["dim"], 4, config["run"]["data_seed"])
    figure = picture(curves, angles, experiment.by_chance(sample), experiment.PUBLISHED)
    print("wrote", write_section(target, HERE / "page.md", "runs", text))
    print("wrote", write_picture(pictures, "oblique", figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
