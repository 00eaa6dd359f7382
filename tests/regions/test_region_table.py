"""The regions as a table and a Parquet file: read back by pyarrow alone, whole or not there."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gatewise.errors import OutputError
from gatewise.ir.network import fingerprint
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.regions.polyhedral.region_table import (
    affine_on_slice,
    describe,
    region_file,
    region_table,
    to_parquet,
)
from nets import mixed, mlp


@pytest.fixture(scope="module")
def complex():
    return enumerate_regions(mlp(3, 8, 7, 2), (-1, 1))


def test_a_row_a_region(complex, tmp_path):
    table = pq.read_table(complex.to_parquet(tmp_path / "regions.parquet"))
    assert len(table) == len(complex)
    held = table.to_pydict()
    assert held["region"] == list(range(len(complex)))
    assert sum(held["volume"]) == pytest.approx(8, rel=1e-12)
    met = complex.adjacency()
    for i in range(0, len(complex), 11):
        corners = np.array(held["vertices"][i]).reshape(held["vertex_count"][i], 3)
        assert (corners == complex.vertices_of(i)).all()
        assert held["pattern"][i] == complex.pattern.bits[i].tobytes()
        assert held["neighbours"][i] == met[[i]].indices.tolist()
        assert held["inside"][i] == bool((np.abs(corners) < 1).all())
        s = np.array(held["interior"][i])
        for o in range(2):
            said = np.array(held[f"slope:{o}"][i]) @ s + held[f"intercept:{o}"][i]
            assert said == pytest.approx(complex.values(s[None])[0, o], abs=1e-13)
    for name, count in complex.pattern.active().items():
        assert held[f"active:{name}"] == count.tolist()


def test_the_schema_says_of_what(complex, tmp_path):
    path = to_parquet(complex, tmp_path / "regions.parquet")
    said = json.loads(pq.read_metadata(path).metadata[b"gatewise"])
    assert said["network"] == fingerprint(complex.network)
    assert said["complete"] is True and said["undecided"] == 0
    assert said["low"] == [-1] * 3 and said["high"] == [1] * 3
    assert said["regions"] == len(complex) and said["counts"] == dict(complex.counts)
    assert said == json.loads(region_table(complex).schema.metadata[b"gatewise"])
    fields = {f["gate"]: f["byte"] for f in said["layout"]}
    assert fields == {f.name: f.start for f in complex.pattern.fields}


def test_parts_are_numbered_on(complex, tmp_path):
    path = tmp_path / "parts.parquet"
    with region_file(path) as add:
        add(complex, False)
        assert not path.exists()
        add(complex, False)
    table = pq.read_table(path)
    assert table["region"].to_pylist() == list(range(2 * len(complex)))
    assert "neighbours" not in table.column_names
    said = json.loads(pq.read_metadata(path).metadata[b"gatewise"])
    assert said["regions"] == 2 * len(complex)


def test_nothing_is_left_of_a_file_that_failed(complex, tmp_path):
    with pytest.raises(ValueError, match="stop"), region_file(tmp_path / "x.parquet") as add:
        add(complex, False)
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError):
        to_parquet(complex, tmp_path)


def test_maps_on_a_slice():
    """f(s) = slope s + intercept on each region, in the coordinates of the slice."""
    network = mlp(6, 10, 10, 3)
    complex = enumerate_regions(network, slice=slice_through(*np.eye(6)[:3]))
    slope, intercept = affine_on_slice(complex)
    said = np.einsum("rok,rk->ro", slope, complex.interior) + intercept
    assert said == pytest.approx(complex.values(complex.interior), abs=1e-12)
    assert len(region_table(complex)) == len(complex)


def test_maps_of_residual_maxout_and_product():
    complex = enumerate_regions(mixed(2), ((-1, -1, -1, 0.5), (1, 1, 1, 0.5)))
    slope, intercept = affine_on_slice(complex)
    said = np.einsum("rok,rk->ro", slope, complex.interior) + intercept
    assert said == pytest.approx(complex.values(complex.interior), abs=1e-12)
    weight = complex.map[np.arange(3)].matrix()
    assert torch.allclose(torch.from_numpy(slope[:3]), weight[..., :3])
    assert describe(complex)["directions"] == np.eye(4)[:3].tolist()


def test_a_point_is_one_row(tmp_path):
    complex = enumerate_regions(mlp(2, 6, 1), ([0.5, 0.2], [0.5, 0.2]))
    table = pq.read_table(to_parquet(complex, tmp_path / "p.parquet"))
    (row,) = table.to_pylist()
    assert row["interior"] == row["vertices"] == row["slope:0"] == []
    assert row["intercept:0"] == pytest.approx(complex.values()[0, 0], abs=1e-15)
