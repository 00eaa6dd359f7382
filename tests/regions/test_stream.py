"""Regions written to Parquet part by part: the same as all at once, whole or not at all."""

import pyarrow.parquet as parquet
import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.errors import DataError
from gatewise.regions.cells import chunks


@pytest.fixture(scope="module")
def network() -> gw.Network:
    torch.manual_seed(0)
    sizes = [nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)]
    return gw.read(nn.Sequential(*sizes).double(), torch.zeros(1, 2, dtype=torch.float64))


def test_parts_are_the_whole(network, tmp_path, monkeypatch) -> None:
    whole = gw.regions.enumerate_regions(network, (-1, 1))
    whole.to_parquet(tmp_path / "whole.parquet")
    monkeypatch.setattr(chunks, "FORM_BYTES", 1 << 16)
    said = gw.regions.stream_regions(network, tmp_path / "parts.parquet", (-1, 1))
    assert (said.regions, said.complete, said.undecided) == (795, True, 0)
    assert said.counts == whole.counts
    one, other = (
        parquet.read_table(tmp_path / f"{name}.parquet").to_pydict() for name in ("whole", "parts")
    )
    assert parquet.ParquetFile(tmp_path / "parts.parquet").num_row_groups > 1
    assert other["region"] == list(range(795))
    volume = dict(zip(one["pattern"], one["volume"], strict=True))
    assert dict(zip(other["pattern"], other["volume"], strict=True)) == pytest.approx(volume)


def test_a_stream_that_stops_says_so(network, tmp_path) -> None:
    path = tmp_path / "some.parquet"
    said = gw.regions.stream_regions(network, path, (-1, 1), max_regions=100)
    assert (said.regions, said.complete) == (100, False)
    assert b'"complete": false' in parquet.read_metadata(path).metadata[b"gatewise"]


def test_a_stream_that_stops_between_two_parts_says_so(network, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(chunks, "FORM_BYTES", 1 << 14)
    sizes: list[int] = []
    gw.regions.enumerate_regions(
        network, (-1, 1), workers=1, progress=lambda regions, _: sizes.append(regions)
    )
    path = tmp_path / "first.parquet"
    said = gw.regions.stream_regions(network, path, (-1, 1), max_regions=sizes[0], workers=1)
    assert len(sizes) > 1 and (said.regions, said.complete) == (sizes[0], False)
    assert b'"complete": false' in parquet.read_metadata(path).metadata[b"gatewise"]


def test_a_stream_that_breaks_leaves_no_file(network, tmp_path, monkeypatch) -> None:
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(chunks, "FORM_BYTES", 1 << 14)
    with pytest.raises(KeyboardInterrupt):
        gw.regions.stream_regions(network, tmp_path / "x.parquet", (-1, 1), progress=broken)
    with pytest.raises(DataError, match="either a box or a slice"):
        gw.regions.stream_regions(network, tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())
