"""Imports go down only, as the contracts in pyproject.toml say; and the checker can fail."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import shared

CONFIG = tomllib.loads((shared.ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
ROOMS = [room.strip() for layer in CONFIG["contracts"][0]["layers"] for room in layer.split("|")]


def lint(config: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over the package found in `path`, in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        *("--config", str(config), "--no-cache", "--no-logo"),
    ]
    env = {**os.environ, "PYTHONPATH": str(path), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=config.parent, env=env, capture_output=True, text=True)


def test_contracts_are_kept():
    done = lint(shared.ROOT / "pyproject.toml", shared.ROOT / "src")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_room_is_in_the_contract():
    """A room nobody wrote down would be checked by nobody."""
    package = shared.ROOT / "src" / "gatewise"
    rooms = {f"gatewise.{child.stem}" for child in package.iterdir() if _is_module(child)}
    assert rooms <= set(ROOMS), rooms - set(ROOMS)


def _is_module(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.py"))
    return path.suffix == ".py" and not path.stem.startswith("__")


# ---------------------------------------------------------------- the checker can fail


def package(tmp_path: Path, **sources: str) -> Path:
    """A package `gatewise` with every room of the contract empty but those given."""
    for room in ROOMS:
        folder = tmp_path / "src" / "gatewise" / room.removeprefix("gatewise.")
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(sources.get(folder.name, ""))
    (tmp_path / "src" / "gatewise" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text((shared.ROOT / "pyproject.toml").read_text())
    return tmp_path


BAD = [  # contract, room, what it must not say
    ("rooms", "ir", "import gatewise.ops"),
    ("rooms", "errors", "import gatewise.numeric"),
    ("rooms", "linear", "import gatewise.read"),
    ("one-door", "explain", "from gatewise.read import x"),
    ("four-kinds", "patterns", "from gatewise import ops"),
    ("pictures", "explain", "def f():\n    import matplotlib.pyplot"),
    ("terminal", "api", "import rich.table"),
]


@pytest.mark.parametrize(("contract", "room", "source"), BAD)
def test_a_broken_rule_is_found(tmp_path, contract, room, source):
    here = package(tmp_path, **{room: source})
    done = lint(here / "pyproject.toml", here / "src")
    name = next(c["name"] for c in CONFIG["contracts"] if c["id"] == contract)
    assert done.returncode == 1
    assert f"{name} BROKEN" in done.stdout, done.stdout + done.stderr


def test_a_good_package_passes(tmp_path):
    good = {
        "show": "import matplotlib, jinja2",
        "cli": "import rich, typer, gatewise.api",
        "api": "import gatewise.read, gatewise.show",
        "numeric": "import gatewise.errors",
    }
    here = package(tmp_path, **good)
    done = lint(here / "pyproject.toml", here / "src")
    assert done.returncode == 0, done.stdout + done.stderr
