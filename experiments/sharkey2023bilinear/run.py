"""Identities of "A technical note on bilinear layers for interpretability", and a transformer.

    python experiments/sharkey2023bilinear/run.py --small
    python experiments/sharkey2023bilinear/run.py --full
    python experiments/sharkey2023bilinear/run.py --page

--small measures the identities, trains one transformer, writes nothing into the repository and ends
with 1 unless every check of `expected.csv` that it can make holds. --full trains five kinds of
models and writes `results`. --page makes page and picture of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def main(arguments: list[str] | None = None) -> int:
    """0 if every check holds."""
    from command_line import begun, command

    parser = command(
        __doc__,
        small="one model; seconds",
        full="all models; writes results",
        page="page and picture of the results",
    )
    asked, config, results = begun(parser, arguments, HERE)
    if asked.page:
        return page(results, asked.out)
    return small(config) if asked.small else full(config, results)


def small(config: dict) -> int:
    """Identities, and one transformer whose planted pairs must be found."""
    import experiment
    from reporting import read_checks, verdict

    found = experiment.run(experiment.settings(config, small=True), ["bilinear"])
    for row in found.identities:
        print(f"{row['identity']:62} 0   {row['error']:.1e}")
    print(found.example[0])
    print(experiment.loss_table(found.runs), experiment.pair_table(found.runs), sep="\n\n")
    print("\n" + experiment.pruned_table(found.pruned, "bilinear"))
    numbers = experiment.numbers(found.identities, found.runs)
    return verdict([x for x in read_checks(HERE / "expected.csv", numbers) if x.name in numbers])


def full(config: dict, results: Path) -> int:
    """Every model and seed; writes the tables."""
    import experiment
    from learning import MODELS
    from reporting import read_checks, verdict, write_rows

    found = experiment.run(experiment.settings(config, small=False), list(MODELS))
    for name in experiment.TABLES:
        print("wrote", write_rows(results / f"{name}.csv", getattr(found, name)))
    (results / "example.txt").write_text(found.example[0] + "\n")
    numbers = experiment.numbers(found.identities, found.runs)
    return verdict(read_checks(HERE / "expected.csv", numbers))


def page(results: Path, out: Path | None) -> int:
    """docs/explanation/sharkey.md and its picture, of what lies in `results`."""
    import experiment
    from drawing import picture
    from reporting import PAGES, PICTURES, read_rows, write_picture, write_section

    rows = {name: read_rows(results / f"{name}.csv") for name in experiment.TABLES}
    target, pictures = (
        (PAGES / "sharkey.md", PICTURES) if out is None else (out / "sharkey.md", out / "_static")
    )
    text = (HERE / "runs.md").read_text()
    text = text.format(
        identities=experiment.identity_table(rows["identities"]),
        losses=experiment.loss_table(rows["runs"]),
        pairs=experiment.pair_table(rows["runs"]),
        carried=experiment.carried_table(rows["carried"], "bilinear"),
        pruned=experiment.pruned_table(rows["pruned"], "bilinear"),
        example=(results / "example.txt").read_text().strip(),
    )
    print("wrote", write_section(target, HERE / "page.md", "runs", text))
    figure = picture(rows["curves"], rows["carried"], rows["pairs"])
    print("wrote", write_picture(pictures, "sharkey", figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
