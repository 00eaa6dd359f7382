"""Every hot path runs on another device than the CPU: tensors never mix, and few come back.

On a machine without a GPU a fake device stands in for it, in a process of its own
(`fake_device.py`, `device_jobs.py`); where there is one, the same jobs run on it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import gatewise as gw
from gatewise.errors import DataError
from gatewise.numeric import as_device, device_of, require_float32
from nets import mlp

HERE = Path(__file__).parents[1]
NAMES = [
    "values", "census", "census_brings_back_packed_patterns", "maps", "float32_maps", "regions",
    "traces", "groups_of_patterns", "path_kernels", "path_kernels_of_convolutions",
    "tangent_kernels", "split_tangent_kernels", "paths_and_units", "bilinear_spectra",
    "bilinear_layers_are_read_and_used", "bilinear_bases_and_masks", "bilinear_stacks",
    "training", "explanations", "streamed_census", "decisions_in_rationals",
    "decisions_in_fixed_point", "refusals_of_the_fake_device",
]  # fmt: skip


@cache
def found(device: str) -> dict:
    """What each job said, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "device_jobs.py", device],
        capture_output=True,
        text=True,
        cwd=HERE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("job", NAMES)
def test_a_hot_path_stays_on_its_device(job):
    said = found("fake")[job]
    assert said["error"] is None, said["error"]
    assert not said["strange"], f"copies back to the host that no one allowed: {said['strange']}"


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NO GPU HERE: the hot paths ran on the fake device only"
)
def test_hot_paths_on_a_gpu():
    wrong = {name: said["error"] for name, said in found("cuda").items() if said["error"]}
    assert not wrong


def test_every_job_is_looked_at():
    assert set(NAMES) == set(found("fake"))


# -- the rule: the network's device is the device --


def test_a_device_that_is_not_there_is_refused():
    net = mlp(3, 4, 1)
    with pytest.raises(DataError, match="has no float64, in which gates are decided: use 'cpu'"):
        net.to(device="mps")
    with pytest.raises(DataError, match=r"device must be one of torch's .* got 'nowhere'"):
        net.to(device="nowhere")
    if not torch.cuda.is_available():
        with pytest.raises(DataError, match="torch sees no GPU here, so there is no device 'cuda'"):
            gw.read(net, device="cuda")


def test_a_network_stays_where_it_is_and_values_say_where_they_are():
    net = mlp(3, 4, 1)
    assert gw.read(net) is net
    assert as_device("cpu") == net.to(device="cpu").device == torch.device("cpu")
    assert device_of([1], None, torch.zeros(2, device="meta")).type == "meta"
    assert device_of([1]).type == "cpu"


def test_float32_is_refused_where_it_may_not_be_float32():
    gpu = torch.device("cuda", 0)
    require_float32(gpu, convolves=False)
    require_float32(torch.device("cpu"), convolves=True)
    with pytest.raises(DataError, match=r"float32 convolutions on 'cuda:0' .* use dtype='float64'"):
        require_float32(gpu, convolves=True)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(DataError, match=r"set_float32_matmul_precision\('highest'\)"):
            require_float32(gpu, convolves=False)
    finally:
        torch.set_float32_matmul_precision(before)
