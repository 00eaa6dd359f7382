"""Without the real data, tests that need it are skipped aloud, or fail when it is required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shared

TESTS = """
import pytest, shared
def test_fixture(shared_data): pass
@pytest.mark.real_data
def test_mark(): pass
@pytest.mark.parametrize("file", shared.params("onnx/*.onnx"))
def test_files(file): assert file.exists()
def test_plain(): pass
"""


def run(tmp_path: Path, data: Path, *, required: bool) -> subprocess.CompletedProcess[str]:
    for name in ("conftest.py", "shared.py"):
        shutil.copy(shared.ROOT / "tests" / name, tmp_path / name)
    (tmp_path / "test_inner.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = real_data: x\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env |= {"GATEWISE_DATA": str(data), "GATEWISE_REQUIRE_DATA": "1" if required else ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)


def test_missing_folder_is_counted(tmp_path):
    done = run(tmp_path, tmp_path / "nowhere", required=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 3 skipped" in done.stdout
    assert f"3 tests skipped: real data folder {tmp_path / 'nowhere'} is missing" in done.stdout


def test_missing_folder_fails_when_required(tmp_path):
    done = run(tmp_path, tmp_path / "nowhere", required=True)
    assert done.returncode == 1, done.stdout
    assert "1 passed" in done.stdout
    assert "skipped" not in done.stdout
    assert "GATEWISE_REQUIRE_DATA=1" in done.stdout


@pytest.mark.parametrize("required", [False, True])
def test_folder_is_used(tmp_path, required):
    (tmp_path / "data" / "onnx").mkdir(parents=True)
    (tmp_path / "data" / "onnx" / "one.onnx").touch()
    done = run(tmp_path, tmp_path / "data", required=required)
    assert "4 passed" in done.stdout, done.stdout
