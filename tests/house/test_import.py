"""`import gatewise` is as light as torch, and its names stay what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys

OPTIONAL = {
    *("onnx", "onnxruntime", "sklearn", "skorch", "pandas", "polars", "pyarrow", "matplotlib"),
    *("bokeh", "plotly", "jinja2", "typer", "rich", "scipy", "highspy", "numba", "ray"),
    *("shap", "captum", "lime"),
}


def python(code: str) -> str:
    """What a fresh interpreter prints. It may keep bytecode, as any installed package does."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code: str) -> set[str]:
    """The optional packages that `code` has brought in."""
    listing = python(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")
    return {name.partition(".")[0] for name in json.loads(listing)} & OPTIONAL


def test_no_optional_package_is_imported():
    assert loaded("import gatewise") == set()


def test_the_command_starts_without_what_its_work_needs():
    """Compiled geometry, pictures and tables are imported when they are asked for."""
    assert loaded("import gatewise.cli") == {"typer", "rich"}


def test_the_check_sees_an_optional_package():
    assert "jinja2" in loaded("import jinja2")


def test_import_costs_little_more_than_torch():
    """At most 0.15 s of processor time on top of torch, the best of a few tries."""
    code = (
        "import time, numpy, torch\n"
        "start = time.process_time()\n"
        "import gatewise\n"
        "print(time.process_time() - start)"
    )
    took = []
    for _ in range(5):
        took.append(float(python(code)))
        if took[-1] <= 0.15:
            return
    raise AssertionError(f"import gatewise took {min(took):.3f} s on top of torch")


def test_at_most_twenty_names():
    import gatewise

    assert len(gatewise.__all__) == len(set(gatewise.__all__)) <= 20
    assert [name for name in gatewise.__all__ if not hasattr(gatewise, name)] == []


def test_names_survive_the_import_of_every_module():
    """`gatewise.read` is a function and a room: importing the room must not hide the function."""
    changed = python(
        "import importlib, pkgutil, gatewise\n"
        "before = {name: getattr(gatewise, name) for name in gatewise.__all__}\n"
        "for module in pkgutil.walk_packages(gatewise.__path__, 'gatewise.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print([name for name in before if getattr(gatewise, name) is not before[name]])"
    )
    assert changed.strip() == "[]"


def test_import_leaves_torch_as_it_was():
    """No global dtype, seed, gradient mode or thread count is touched."""
    state = (
        "state = lambda: (torch.get_default_dtype(), torch.is_grad_enabled(),"
        " torch.initial_seed(), torch.get_num_threads())"
    )
    code = f"import torch\n{state}\nbefore = state()\nimport gatewise\nprint(before == state())"
    assert python(code).strip() == "True"


def test_compiled_code_runs_where_it_cannot_be_kept():
    """Installed by root and run by one without a home, Numba has no folder for its cache."""
    code = (
        "from gatewise.numeric import compiled\n"
        "held = {}\n"
        "exec('def double(x):\\n    return 2 * x', held)  # of no file, so of no cache\n"
        "print(compiled(held['double'])(3.0))"
    )
    assert python(code).strip() == "6.0"
