"""A kernel streamed to a file is the kernel in memory; and a file that is there is whole."""

from __future__ import annotations

import collections
import errno
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.dual.kernels import tiles
from gatewise.dual.kernels.path_kernel import npk
from gatewise.dual.kernels.tiles import npk_to_file
from gatewise.errors import DataError, EmptyData, NotGated, OutputError

Usage = collections.namedtuple("Usage", "total used free")


def chain(bias: bool = True) -> gw.Network:
    torch.manual_seed(0)
    first, second = nn.Linear(7, 70, bias=bias), nn.Linear(70, 9, bias=bias)
    return gw.read(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(9, 3, bias=bias)))


def convolution() -> gw.Network:
    torch.manual_seed(0)
    layers = nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2)
    return gw.read(nn.Sequential(*layers).double(), example=torch.zeros(1, 2, 8).double())


def rows(n: int, seed: int = 1, width: int = 7) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def small(monkeypatch):
    """Tiles of 128 rows: kernels of a few hundred rows have many."""
    monkeypatch.setattr(tiles, "TILE", 128)
    monkeypatch.setattr(tiles, "SMALL", 4)


def close(found, want, scale="raw"):
    slack = 1e-5 * np.abs(want[np.isfinite(want)]).max()
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5 if scale == "log" else slack)


@pytest.mark.parametrize("scale", ["raw", "normalised", "cosine", "log"])
@pytest.mark.parametrize("other", [None, 129])
def test_the_file_is_the_kernel_in_memory(tmp_path, small, scale, other):
    net, x = chain(), rows(300)
    x2 = None if other is None else rows(other, 2)
    done = npk_to_file(net, x, tmp_path / "k.npy", X2=x2, scale=scale)
    found = np.load(tmp_path / "k.npy")
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    close(found, npk(net, x, x2, scale=scale).values, scale)
    assert (done.open() == found).all()
    assert done.shape == found.shape
    if other is None:
        assert (found == found.T).all()


def test_the_stated_error_covers_the_file(tmp_path, small):
    net, x = chain(bias=False), rows(200).abs()  # all terms positive: K(|x|, |x'|) is K
    done = npk_to_file(net, x, tmp_path / "k.npy")
    want = npk(net, x).values
    wrong = np.abs(done.open() - want)
    assert (wrong <= done.error * want).all()
    assert wrong.max() > 0
    assert done.error < 1e-4
    assert npk_to_file(net, x, tmp_path / "d.npy", dtype="float64").error < 1e-12


def test_without_inputs_the_file_holds_whole_numbers(tmp_path, small):
    net, x = chain(bias=False), rows(150)
    done = npk_to_file(net, x, tmp_path / "k.npy", inputs=False)
    assert (done.open() == npk(net, x, inputs=False).values).all()


@pytest.mark.parametrize("scale", ["raw", "normalised", "cosine", "log"])
@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("other", [None, 129])
def test_a_linear_network_has_a_file_too(tmp_path, small, other, inputs, scale):
    torch.manual_seed(0)
    net, x = gw.read(nn.Linear(7, 3)), rows(200)
    x2 = None if other is None else rows(other, 2)
    done = npk_to_file(net, x, tmp_path / "k.npy", X2=x2, inputs=inputs, scale=scale)
    close(done.open(), npk(net, x, x2, inputs=inputs, scale=scale).values, scale)


def test_biases_can_be_left_out(tmp_path, small):
    done = npk_to_file(chain(), rows(20), tmp_path / "k.npy", biases=False, dtype="float64")
    close(done.open(), npk(chain(), rows(20), biases=False).values)


@pytest.mark.parametrize("other", [None, 5])
@pytest.mark.parametrize("scale", ["raw", "cosine"])
def test_any_gated_network_can_be_streamed(tmp_path, small, other, scale):
    net = convolution()
    x = torch.randn(9, 2, 8, generator=torch.Generator().manual_seed(1)).double()
    x2 = None if other is None else x[:other] + 0.1
    options = {"X2": x2, "scale": scale, "dtype": "float64"}
    done = npk_to_file(net, x, tmp_path / "k.npy", **options)
    np.testing.assert_allclose(done.open(), npk(net, x, x2, scale=scale).values, rtol=1e-12)


def test_progress_counts_tiles(tmp_path, small):
    seen = []
    npk_to_file(chain(), rows(300), tmp_path / "k.npy", progress=lambda *n: seen.append(n))
    assert seen == [(n, 6) for n in range(1, 7)]  # the lower triangle of 3 x 3


def test_the_answer_says_what_it_is(tmp_path):
    done = npk_to_file(chain(), rows(10), tmp_path / "k.npy")
    assert "10 x 10 rows (raw, float32, 528 bytes)" in str(done)
    assert f"rounding error at most {done.error:.1e} H(|x|, |x'|)" in str(done)
    cosine = npk_to_file(chain(), rows(10), tmp_path / "k.npy", scale="cosine")
    assert "no bound on rounding errors in scale 'cosine'" in str(cosine)
    assert "at most" not in str(cosine)


# -- files that are not whole --


def nothing_left(folder) -> bool:
    return list(folder.iterdir()) == []


def test_a_full_disk_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles.shutil, "disk_usage", lambda p: Usage(10**6, 0, 1000))
    monkeypatch.setattr(tiles, "_stream", lambda *a: pytest.fail("it began"))
    said = r"a kernel of 50 x 50 float32 needs 10,128 bytes, and 1,000 are free there"
    with pytest.raises(OutputError, match=said) as caught:
        npk_to_file(chain(), rows(50), tmp_path / "k.npy")
    assert "\n" not in str(caught.value)
    assert nothing_left(tmp_path)


def test_a_quota_that_stops_the_file_is_said_with_the_bytes(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tiles.os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match="needs 10,128 bytes, and no space left on device there"):
        npk_to_file(chain(), rows(50), tmp_path / "k.npy")
    assert nothing_left(tmp_path)


def test_a_failure_half_way_leaves_the_old_file(tmp_path, small):
    out = tmp_path / "k.npy"
    out.write_bytes(b"what was there")

    def stop(done, _):
        if done == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        npk_to_file(chain(), rows(300), out, progress=stop)
    assert out.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_leaves_no_file_of_that_name(tmp_path):
    code = """
        import os, signal, sys, torch, gatewise as gw
        from torch import nn
        from gatewise.dual.kernels import tiles
        tiles.TILE = 128
        net = gw.read(nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 1)))
        def die(done, total):
            if done == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        tiles.npk_to_file(net, torch.randn(400, 3), sys.argv[1], progress=die)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "k.npy")]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    left = [p.name for p in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".k.npy.")
    assert left[0].endswith(".partial")


# -- refusals --


def test_what_cannot_be_computed_is_refused_before_a_file_is_made(tmp_path):
    out = tmp_path / "k.npy"
    with pytest.raises(EmptyData, match="X has 0 rows"):
        npk_to_file(chain(), rows(0), out)
    with pytest.raises(DataError, match="scale must be one of"):
        npk_to_file(chain(), rows(3), out, scale="big")
    with pytest.raises(DataError, match="dtype must be float32 or float64"):
        npk_to_file(chain(), rows(3), out, dtype="int8")
    leaky = gw.read(nn.Sequential(nn.Linear(7, 3), nn.LeakyReLU(), nn.Linear(3, 1)))
    with pytest.raises(NotGated):
        npk_to_file(leaky, rows(3), out)
    assert nothing_left(tmp_path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OutputError, match="it is not a file"):
        npk_to_file(chain(), rows(3), tmp_path / ".." / tmp_path.name)
