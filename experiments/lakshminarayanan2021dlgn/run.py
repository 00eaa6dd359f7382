"""DLGN beside the DNN of the same layers: accuracies, permuted gates, constant inputs.

    python experiments/lakshminarayanan2021dlgn/run.py --small            # two minutes
    python experiments/lakshminarayanan2021dlgn/run.py                    # digits, CIFAR-10 16x16
    python experiments/lakshminarayanan2021dlgn/run.py --full --device cuda

Ends with 1 if a claim of the paper does not hold. --resume goes on after the trials that are in
the results already; --out FOLDER writes there and nothing in the repository.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def main(arguments: list[str] | None = None) -> int:
    """Train, print, write; 0 if every claim holds."""
    asked = parsed(arguments)
    if asked.device == "cpu":
        from command_line import threads

        threads(1)
    report, trials = (importlib.import_module(name) for name in ("report", "trials"))
    names = asked.only or (["c4gap", "vgg", "resnet"] if asked.full else ["digits", "cifar"])
    held = []
    for name in names:
        c = settings(name, asked.small)
        found = trained(trials, name, c, asked)
        held += report.say(name, found, asked.small)
        print()
    print("wrote", report.page(asked.out, small=asked.small))
    print(f"{sum(held)} of {len(held)} claims hold")
    return 0 if all(held) else 1


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    from command_line import command

    sizes = {
        "small": "small networks, few rows: minutes",
        "full": "the paper's networks: for a GPU",
    }
    parser = command(__doc__, required=False, **sizes)
    parser.add_argument("--only", nargs="+", choices=sections(), help="these runs alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true", help="keep the trials in the results")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="a folder to write to")
    asked = parser.parse_args(arguments)
    if asked.small and asked.out == HERE / "results":
        asked.out = asked.out / "small"
    return asked


def sections() -> list[str]:
    """The runs of config.toml."""
    return list(tomllib.loads((HERE / "config.toml").read_text()))


def settings(name: str, small: bool) -> dict:
    """One run's settings, with those of its small run over them."""
    c = tomllib.loads((HERE / "config.toml").read_text())[name]
    changes = c.pop("small", {})
    return {**c, **changes} if small else c


def trained(trials, name: str, c: dict, asked: argparse.Namespace) -> list:
    """The trials of one run, each written as soon as it is there."""
    path = asked.out / f"{name}.csv"
    found = trials.read(path) if asked.resume else []
    start = time.perf_counter()
    run = trials.digits if name == "digits" else trials.images
    for trial in run(c, asked.device, found):
        found.append(trial)
        trials.write(path, found)
        print(
            f"{name:8}{trial.model:20}seed {trial.seed} {trial.order:9}test {trial.test:6.2f} %  "
            f"train {trial.train:6.2f} %  {trial.seconds:6.1f} CPU s  "
            f"({time.perf_counter() - start:.0f} s in all)",
            flush=True,
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
