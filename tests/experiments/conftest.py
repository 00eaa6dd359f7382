"""What tests of every experiment need."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

import shared

EXPERIMENTS = shared.ROOT / "experiments"


@pytest.fixture
def experiment(monkeypatch, request):
    """Imports the modules of the test's FOLDER, under their own short names for its length."""
    for folder in (EXPERIMENTS, request.module.FOLDER):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _forget()
    yield importlib.import_module
    torch.set_num_threads(threads)
    _forget()


def _forget() -> None:
    """Two experiments have modules of one name."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and EXPERIMENTS in Path(file).parents:
            del sys.modules[name]
