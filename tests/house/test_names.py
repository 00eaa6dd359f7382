"""No file names a package registry; no source unpickles or evaluates; and the checks can fail."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import shared

# Spelt in two parts, so that this file passes its own check.
HOSTS = tuple(
    "".join(parts)
    for parts in [
        ("py", "pi.org"),
        ("py", "pi.python.org"),
        ("python", "hosted.org"),
        ("ana", "conda.org"),
        ("ana", "conda.com"),
        ("conda", "-forge"),
        ("npm", "js."),
        ("js", "delivr"),
        ("un", "pkg.com"),
        ("crates", ".io"),
        ("ruby", "gems.org"),
        ("proxy.", "golang"),
        ("docker", ".io"),
        ("gh", "cr.io"),
        ("download.", "pytorch"),
        ("hugging", "face.co"),
    ]
)
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {"read_pickle", "to_pickle"}


# ---------------------------------------------------------------- registries


def project_files() -> list[Path]:
    """Committed files and those about to be; every file but hidden folders where git is absent."""
    root = shared.ROOT
    if shutil.which("git") and (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        files = [root / name for name in listing.stdout.split("\0") if name]
    else:
        files = [f for f in root.rglob("*") if ".venv" not in f.parts and "_build" not in f.parts]
    return [file for file in files if file.is_file()]


def named_hosts(files: Iterable[Path]) -> list[str]:
    """Every line of a text file that names a registry."""
    return [
        f"{file}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(_text(file).splitlines(), 1)
        if any(host in line.lower() for host in HOSTS)
    ]


def _text(file: Path) -> str:
    data = file.read_bytes()
    return "" if b"\0" in data else data.decode(errors="replace")


def test_no_file_names_a_registry():
    files = project_files()
    assert shared.ROOT / "pyproject.toml" in files
    assert named_hosts(files) == []


@pytest.mark.parametrize("host", HOSTS)
def test_a_registry_is_found(tmp_path, host):
    file = tmp_path / "a.md"
    file.write_text(f"fine\nsee HTTPS://{host.upper()}/x\n")
    assert [line.split(":")[1] for line in named_hosts([file])] == ["2"]


# ---------------------------------------------------------------- pickles


def unsafe(source: str) -> Iterator[str]:
    """Each import or call through which a file could run code of its own."""
    for node in ast.walk(ast.parse(source)):
        for name in _unsafe_names(node):
            yield f"{node.lineno}: {name}"


def _unsafe_names(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [n.name for n in names if n.name.split(".")[0] in MODULES]
        case ast.ImportFrom(module=str(module)):
            return [module] if module.split(".")[0] in MODULES else []
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            return [name]
        case ast.Call(func=ast.Attribute(attr=name)) if name in METHODS:
            return [name]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr="load")):
            return _unsafe_load(module, {k.arg: k.value for k in node.keywords})
    return []


def _unsafe_load(module: str, keywords: dict[str | None, ast.expr]) -> list[str]:
    def says(name: str, value: bool) -> bool:
        given = keywords.get(name)
        return isinstance(given, ast.Constant) and given.value is value

    if module == "torch" and not says("weights_only", True):
        return ["torch.load without weights_only=True"]
    if module in {"np", "numpy"} and "allow_pickle" in keywords and not says("allow_pickle", False):
        return [f"{module}.load that allows pickles"]
    return []


def test_no_source_unpickles():
    sources = sorted((shared.ROOT / "src").rglob("*.py"))
    assert sources
    assert [f"{file}:{found}" for file in sources for found in unsafe(file.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "def f():\n    import joblib.numpy_pickle",
        "eval('1')",
        "exec(code)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "np.load(f, allow_pickle=True)",
        "pd.read_pickle(f)",
    ],
)
def test_unsafe_code_is_found(source):
    assert len(list(unsafe(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "torch.load(f, weights_only=True)",
        "np.load(f)",
        "np.load(f, allow_pickle=False)",
        "import json",
        "raise PickledModel('pickle')",
    ],
)
def test_safe_code_is_left_alone(source):
    assert list(unsafe(source)) == []
