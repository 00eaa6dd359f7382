"""What every test shares: the real data folder, Hypothesis profiles, one torch thread a worker."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import hypothesis
import pytest

import shared

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data folder. A test that asks for it needs no `real_data` mark."""
    _need_data()
    return shared.folder()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real_data"):
        _need_data()
    if item.get_closest_marker("browser") and not shutil.which("chromium"):
        pytest.skip("there is no `chromium` on the path")


def _need_data() -> None:
    if shared.folder().is_dir():
        return
    if shared.required():
        pytest.fail(f"{shared.reason()}, and GATEWISE_REQUIRE_DATA=1", pytrace=False)
    pytest.skip(shared.reason())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [_skip_reason(report) for report in terminalreporter.getreports("skipped")]
    missing = [text for text in reasons if shared.reason() in text]
    if missing:
        terminalreporter.section("real data", yellow=True)
        terminalreporter.line(f"{len(missing)} tests skipped: {shared.reason()}")
    others = sorted({text for text in reasons if shared.reason() not in text})
    if others:
        terminalreporter.section("skipped", yellow=True)
        for text in others:
            terminalreporter.line(text)


def _skip_reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    return str(where[2]) if isinstance(where, tuple) else str(where)
