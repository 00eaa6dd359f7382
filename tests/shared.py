"""The real data folder: where it is, and the files in it as test parameters.

It is GATEWISE_DATA, or ../shared/data beside the repository. Where it is missing, tests marked
`real_data` are skipped and counted in the summary, or fail if GATEWISE_REQUIRE_DATA=1.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """The folder, whether it exists or not."""
    return Path(os.environ.get("GATEWISE_DATA") or ROOT.parent / "shared" / "data").resolve()


def required() -> bool:
    """Must a test that needs the folder fail without it?"""
    return os.environ.get("GATEWISE_REQUIRE_DATA") == "1"


def reason() -> str:
    """Why a test cannot run. The summary counts skips that begin with this."""
    return f"real data folder {folder()} is missing"


def params(pattern: str) -> list:
    """One pytest.param a file under the folder that matches, marked `real_data`.

    Without the folder: one param that is skipped (or fails), so nothing vanishes in silence.
    A folder with no such file is an error.
    """
    here = folder()
    if not here.is_dir():
        return [pytest.param(here / pattern, id=pattern, marks=pytest.mark.real_data)]
    found = sorted(here.glob(pattern))
    if not found:
        raise FileNotFoundError(f"no file matches {pattern} in {here}")
    return [
        pytest.param(file, id=str(file.relative_to(here)), marks=pytest.mark.real_data)
        for file in found
    ]
