"""An explanation on the Ray that is connected, whose workers die, beside that of this process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import gatewise as gw
from gatewise.explain.streaming import abroad, scan
from streamed import assert_same, table, written

RNG = np.random.default_rng(0)
NET = gw.read([(RNG.normal(size=(b, a)), RNG.normal(size=b)) for a, b in ((3, 6), (6, 2))])


def a_worker_that_dies_changes_no_explanation(place: Path) -> None:
    """One is killed with its part written, before it could say so."""
    data = written(place / "data", table())
    mark, part = place / "mark", abroad.explain_part

    def dying(*arguments):  # travels as it is written here, for it is inside a function
        found = part(*arguments)
        if arguments[-1].k == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "PART_ROWS", 400)
        patch.setattr(abroad, "LEAST_ROWS", 1)
        patch.setattr(abroad, "explain_part", dying)
        asked = {"target": "y", "top": 5}
        found = gw.explain(
            NET, data, out=place / "ray", engine="ray", **asked, progress=lambda *t: told.append(t)
        )
        one = gw.explain(NET, data, out=place / "one", **asked)
    assert mark.exists()
    assert [n for what, n, _ in told if what == "rows"] == [400, 800, 1200, 1500]
    assert_same(found, gw.explain(NET, table(), target="y"))
    assert found.sums.counts.tolist() == one.sums.counts.tolist()
    np.testing.assert_allclose(found.sums.totals, one.sums.totals, rtol=1e-12, atol=1e-11)
    assert not list(found.folder.rglob("*.partial"))
