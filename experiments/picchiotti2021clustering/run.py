"""Reproduces one experiment: its numbers, its pictures, its section of the page in the docs.

    python experiments/picchiotti2021clustering/run.py titanic
    python experiments/picchiotti2021clustering/run.py simulation

Ends with 1 if a number is further from expected.csv than the tolerance there. With --out FOLDER
everything is written there and nothing in the repository. `pip install 'gatewise[report,sklearn]'`.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

import common

sys.path.append(str(common.HERE.parent))
EXPERIMENTS = ("titanic", "simulation")


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment; 0 if every number is as expected."""
    from command_line import command, threads

    parser = command(__doc__)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--out", type=Path, help="write page, pictures and numbers here instead")
    asked = parser.parse_args(arguments)
    start = time.perf_counter()

    threads(1)  # small networks, and sums in one order; numpy is not here yet
    run = importlib.import_module(asked.experiment).run
    section = run(common.settings(asked.experiment))
    for path in write(section, asked.out):
        print("wrote", path)
    expected = common.read_expected(common.HERE / "expected.csv", section.name)
    checks = common.compare(section.numbers, expected)
    for check in checks:
        verdict = "ok" if check.ok else "OUT"
        print(
            f"{verdict:4}{check.name:44}{check.value:12.5g}  "
            f"expected {check.expected:.5g} ± {check.tolerance:.2g}"
        )
    good = sum(check.ok for check in checks)
    print(f"{good} of {len(checks)} as expected, {time.perf_counter() - start:.0f} s")
    return 0 if good == len(checks) else 1


def write(section: common.Section, out: Path | None) -> list[Path]:
    """Numbers, pictures and page: in the repository, or all in `out`."""
    results, pictures, page = (
        (common.HERE / "results", common.PICTURES, common.PAGE)
        if out is None
        else (out, out / "_static", out / "explanation" / "picchiotti.md")
    )
    numbers = results / f"{section.name}.csv"
    common.write_numbers(numbers, section.numbers)
    common.write_page(page, section)
    return [numbers, *common.write_pictures(pictures, section), page]


if __name__ == "__main__":
    sys.exit(main())
