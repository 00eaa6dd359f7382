"""Pictures of complexes say what the network does: checked on points, areas and files."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html
import io
import itertools
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import chrome
import gatewise as gw
import shared
from gatewise.errors import DataError, MissingExtra, WrongShape
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.regions.polyhedral.volumes import volumes
from gatewise.show import maps, plane, polygons, solids
from gatewise.show.results import save_figure
from nets import mlp

LOW, HIGH = -2.0, 2.0


@pytest.fixture(scope="module")
def many():
    """Four outputs over a plane, some hundred regions."""
    return enumerate_regions(mlp(2, 14, 12, 4, seed=3), (LOW, HIGH))


@pytest.fixture(scope="module")
def one():
    """One output that changes its sign."""
    return centred(mlp(2, 12, 10, 1, seed=1), (LOW, HIGH))


@pytest.fixture(scope="module")
def solid():
    return centred(mlp(3, 6, 5, 1, seed=2), (-1, 1))


def centred(network, box):
    """The complex of the network minus the middle of its values: 0 is taken somewhere."""
    values = enumerate_regions(network, box).values()
    shift = float((values.min() + values.max()) / 2)
    last = network.node(network.output)
    kind = dataclasses.replace(last.kind, bias=last.kind.bias - shift)
    nodes = (*network.nodes[:-1], dataclasses.replace(last, kind=kind))
    return enumerate_regions(dataclasses.replace(network, nodes=nodes), box)


def inside(r: polygons.Rings) -> np.ndarray:
    """A point inside each ring: the mean of its corners, one ring after the other."""
    return np.stack([r.corner[r.ring == i].mean(0) for i in range(len(r.cell))])


def shoelace(p: np.ndarray) -> float:
    x, y = p.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def svg(figure) -> str:
    target = io.BytesIO()
    figure.savefig(target, format="svg")
    return target.getvalue().decode()


# ---------------------------------------------------------------- polygons


def test_classes_are_the_networks_own_and_fill_every_cell(many):
    parts, kind = polygons.by_class(polygons.rings(many))
    assert len(set(kind.tolist())) > 1 and len(parts.cell) > len(many)
    found = many.network(inside(parts)).numpy()
    sizes = np.array([shoelace(parts.corner[parts.ring == i]) for i in range(len(parts.cell))])
    clear = sizes > 1e-9
    assert (found.argmax(1) == kind)[clear].all()
    np.testing.assert_allclose(polygons.ring_areas(parts), sizes, atol=1e-12)
    whole = np.bincount(parts.cell, sizes, len(many))
    np.testing.assert_allclose(whole, volumes(many), atol=1e-10)


def test_the_decision_changes_across_every_named_side(many):
    lines = polygons.named_sides(*polygons.by_class(polygons.rings(many)))
    along = lines[:, 1] - lines[:, 0]
    length = np.linalg.norm(along, axis=1, keepdims=True)
    lines, along = lines[length[:, 0] > 1e-4], (along / length)[length[:, 0] > 1e-4]
    assert len(lines) > 10
    off = 1e-7 * np.stack([-along[:, 1], along[:, 0]], 1)
    middle = lines.mean(1)
    left, right = (many.network(middle + s * off).argmax(1) for s in (1, -1))
    assert (left != right).all()


def test_bands_fill_every_cell_and_hold_their_values(one):
    r = polygons.rings(one)
    levels = np.linspace(one.values().min(), one.values().max() + 1e-9, 7)
    parts = polygons.bands(r, 0, levels)
    total = np.zeros(len(one))
    for part, (low, high) in zip(parts, itertools.pairwise(levels), strict=True):
        f = one.network(inside(part)).numpy()[:, 0]
        assert ((low - 1e-9 <= f) & (f <= high + 1e-9)).all()
        total += np.bincount(part.cell, polygons.ring_areas(part), len(one))
    np.testing.assert_allclose(total, volumes(one), atol=1e-10)


def test_the_level_line_is_crossed_where_the_sign_changes_on_a_grid(one):
    """Along many horizontal lines: as many crossings as changes of sign, at their places."""
    drawn = maps._at_level(one, polygons.rings(one), 0, 0.0)
    own = polygons.level_lines(polygons.rings(one), polygons.rings(one).value[:, 0], 0.0)
    x = np.linspace(LOW, HIGH, 4001)
    crossed = 0
    for y in np.linspace(LOW + 0.013, HIGH - 0.017, 23):
        f = one.network(np.stack([x, np.full_like(x, y)], 1)).numpy()[:, 0]
        change = np.flatnonzero((f[1:] > 0) != (f[:-1] > 0))
        crossed += len(change)
        for lines in (drawn, own):
            a, b = lines[:, 0], lines[:, 1]
            hit = (a[:, 1] > y) != (b[:, 1] > y)
            t = (y - a[hit, 1]) / (b[hit, 1] - a[hit, 1])
            at = np.sort(a[hit, 0] + t * (b[hit, 0] - a[hit, 0]))
            assert len(at) == len(change)
            assert (np.abs(at - x[change]) <= x[1] - x[0]).all()
    assert crossed > 10


def test_neighbours_have_different_colours(many):
    pairs = polygons.edges(many).cells
    pairs = pairs[(pairs >= 0).all(1)]
    colour = polygons.neighbour_colours(len(many), pairs)
    assert len(pairs) > len(many) and (colour >= 0).all()
    assert all(colour[a] != colour[b] for a, b in pairs)


def test_all_that_meet_all_have_different_colours():
    every = np.array([(a, b) for a in range(20) for b in range(a)])
    assert sorted(polygons.neighbour_colours(20, every, most=8)) == list(range(20))


def test_edges_join_cells_that_differ_and_lie_on_the_crease_of_their_gate(many):
    found = polygons.edges(many)
    inner = found.who >= 0
    assert ((found.cells >= 0).all(1) == inner).all()  # a wall of the box has one cell
    middle = torch.from_numpy(many.vertices[found.ends].mean(1))
    gates = polygons.gate_of(found.who[inner])
    assert set(gates.tolist()) == {0, 1}
    value = middle[torch.from_numpy(inner)]
    place, before = -1, {}
    for node in many.network.nodes:
        if node in many.network.gates:
            place += 1
            before[place] = value
        value = node.kind(value)
    for g in (0, 1):
        at_knot = before[g][torch.from_numpy(gates == g)].abs().amin(1)
        assert (at_knot < 1e-9).all()


def test_a_jump_is_drawn_by_each_cells_own_map():
    c = enumerate_regions(mlp(2, 9, 1, gate="step", seed=4), (LOW, HIGH))
    r = polygons.rings(c)
    assert polygons.jumps(c)
    near = 0.999 * r.corner + 0.001 * c.interior[r.cell[r.ring]]
    np.testing.assert_allclose(c.network(near).numpy(), r.value, atol=1e-9)
    for colour in maps.COLOURS:
        assert svg(maps.plane_map(c, colour=colour))


# ---------------------------------------------------------------- maps


def test_every_region_is_one_polygon_of_the_file(many):
    figure = maps.plane_map(many, colour="region", decision=False)
    fills = [p for p in figure.axes[0].patches if p.get_fill()]
    starts = sum(int((p.get_path().codes == 1).sum()) for p in fills)
    assert starts == len(many)
    assert sum(len(p.get_path().vertices) for p in fills) == len(many.cells.vertex)
    assert "<image" not in svg(figure)


@pytest.mark.parametrize("colour", maps.COLOURS)
def test_each_colouring_names_axes_and_counts(many, colour):
    network = dataclasses.replace(many.network, feature_names=("age$", "income"))
    c = dataclasses.replace(many, network=network)
    figure = maps.plane_map(c, colour=colour, points=np.zeros((3, 2)), labels=[0, 1, 2])
    ax = figure.axes[0]
    assert ax.get_xlabel() == r"age\$" and ax.get_ylabel() == "income"
    assert ax.get_title(loc="left").startswith(f"{len(many):,}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "<svg" in svg(figure)


def test_a_large_map_has_its_fills_as_pixels_and_says_so(many, monkeypatch):
    monkeypatch.setattr(maps, "VECTORS", 44 * len(polygons.edges(many).who) + 1)
    figure = maps.plane_map(many)
    assert maps.pixels(figure).startswith("fills are drawn as pixels")
    assert "<image" in svg(figure)
    monkeypatch.setattr(maps, "VECTORS", 1)
    assert maps.pixels(maps.plane_map(many)).startswith("fills and edges are")


def test_held_inputs_are_named():
    c = enumerate_regions(mlp(4, 8, 1), ([-1, 0.5, -1, 2], [1, 0.5, 1, 2]))
    figure = maps.plane_map(c)
    said = " ".join(t.get_text() for t in figure.axes[0].texts)
    assert "Held: x1 = 0.500, x3 = 2." in said
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("x0", "x2")


def test_a_stopped_enumeration_is_no_complete_map(many):
    c = enumerate_regions(many.network, (LOW, HIGH), max_regions=20)
    assert "not all" in maps.plane_map(c).axes[0].get_title(loc="left")


def test_maps_that_cannot_be_drawn_are_refused(many, solid):
    with pytest.raises(DataError, match="needs 2 coordinates, this complex has 3"):
        maps.plane_map(solid)
    with pytest.raises(DataError, match=r"colour must be one of .*'rainbow'"):
        maps.plane_map(many, colour="rainbow")
    with pytest.raises(WrongShape, match="points must be rows of 2 inputs"):
        maps.plane_map(many, points=np.zeros((3, 5)))
    with pytest.raises(WrongShape, match="3 points and 2 labels"):
        maps.plane_map(many, points=np.zeros((3, 2)), labels=[0, 1])
    with pytest.raises(DataError, match="no output 'y9'"):
        maps.plane_map(many, output="y9")


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_a_file_is_the_same_in_every_run(one, tmp_path, kind):
    files = [tmp_path / f"{i}.{kind}" for i in range(2)]
    for file in files:
        save_figure(maps.plane_map(one), file, dpi=60)
    assert files[0].read_bytes() == files[1].read_bytes()


# ---------------------------------------------------------------- slices of images


def test_what_is_a_picture():
    assert plane.as_image((1, 28, 28), np.arange(784)).shape == (28, 28)
    assert plane.as_image((784,), np.arange(784)).shape == (28, 28)
    assert plane.as_image((784, 1), np.arange(784)).max() == 1
    assert plane.as_image((3, 8, 9), np.arange(216)).shape == (8, 9, 3)
    assert plane.as_image((13,), np.arange(13)) is None
    assert plane.as_image((100,), np.arange(100)) is None  # a table of 100 columns is none
    assert plane.as_image((5, 8, 8), np.arange(320)) is None


def test_thumbnails_are_beside_the_marks():
    network, rng = mlp(16, 10, 3), np.random.default_rng(0)
    points = rng.normal(size=(3, 16))
    c = enumerate_regions(network, slice=slice_through(*points))
    plain, shown = maps.plane_map(c), maps.plane_map(c, images=[p.reshape(4, 4) for p in points])
    boxes = [a for a in shown.axes[0].artists if type(a).__name__ == "AnnotationBbox"]
    assert [tuple(b.xy) for b in boxes] == [tuple(m) for m in c.slice.marks]
    assert {"1", "2", "3"} <= {t.get_text() for t in plain.axes[0].texts}
    with pytest.raises(DataError, match="3 marks and 2 images"):
        maps.plane_map(c, images=[np.zeros((2, 2))] * 2)


def mnist() -> np.ndarray:
    file = shared.folder() / "images/mnist/t10k-images-idx3-ubyte.gz"
    flat = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16)
    return flat.reshape(-1, 784) / 255.0


@pytest.mark.parametrize("file", shared.params("onnx/mnist_fc/mnist-net_256x2.onnx"))
def test_a_slice_through_three_digits(file: Path):
    network, images = gw.read(file), mnist()[[3, 2, 1]]
    c = enumerate_regions(network, slice=slice_through(*images))
    parts, kind = polygons.by_class(polygons.rings(c))
    box = np.prod(c.slice.high - c.slice.low)
    assert polygons.ring_areas(parts).sum() == pytest.approx(box, rel=1e-8)
    rng = np.random.default_rng(0)
    chosen = np.isin(np.arange(len(parts.cell)), rng.choice(len(parts.cell), 200))
    some = parts.take(chosen)
    found = network.to(torch.float64)(c.slice.inputs(inside(some))).argmax(1).numpy()
    large = polygons.ring_areas(some) > 1e-6
    assert large.sum() > 50 and (found == kind[chosen])[large].all()
    pictures = [plane.as_image(network.input_shape, x) for x in images]
    assert "<image" in svg(maps.plane_map(c, colour="class", images=pictures))  # the thumbnails


# ---------------------------------------------------------------- solids


def test_facets_close_around_every_cell(solid):
    """Pyramids from a point inside over all triangles: their volumes add up to the cell's."""
    f = solids.facets(solid)
    corner = f.corner[solids.fans(f)]
    cell = np.repeat(np.arange(len(solid)), np.diff(solid.cells.ptr))[corner[:, 0]]
    at = solid.vertices[solid.cells.vertex][corner] - solid.interior[cell][:, None]
    sizes = np.bincount(cell, np.abs(np.linalg.det(at)) / 6, len(solid))
    np.testing.assert_allclose(sizes, volumes(solid), rtol=1e-6, atol=1e-10)


def numbers(column: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(column["bdata"]), "<" + column["dtype"])


def figure_in(page: str) -> dict:
    return json.loads(re.search(r'id="figure">(.*?)</script>', page, re.DOTALL)[1])


def test_a_solid_page_holds_the_values_and_the_surface(solid):
    regions, _, surface = figure_in(solids.html(solid))["data"]
    values = solid.network(solid.vertices[solid.cells.vertex]).numpy()[:, 0]
    np.testing.assert_allclose(numbers(regions["intensity"]), values, atol=1e-6)
    at = np.stack([numbers(surface[n]) for n in "xyz"], 1).astype(float)
    assert solid.network(at).abs().max() < 1e-5
    assert len(numbers(surface["i"])) == len(surface["facecolor"])


def test_a_name_is_never_markup_of_the_page(solid):
    evil = "</script><img src=x onerror=alert(1)>"
    network = dataclasses.replace(solid.network, output_names=(evil,), feature_names=(evil,) * 3)
    page = solids.html(dataclasses.replace(solid, network=network), title=evil)
    assert evil not in page and html.escape(evil) in page
    assert "<" not in json.dumps(figure_in(page)).replace("<extra></extra>", "")
    assert "default-src 'none'" in page


def test_solids_that_cannot_be_drawn_are_refused(solid, many, monkeypatch):
    with pytest.raises(DataError, match="needs 3 coordinates, this complex has 2"):
        solids.html(many)
    monkeypatch.setattr(solids, "MOST", 3)
    with pytest.raises(DataError, match="at most 3 regions"):
        solids.html(solid)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(MissingExtra, match="plotly"):
        solids.html(solid)


@pytest.mark.browser
def test_a_solid_page_is_drawn_without_a_network(solid, tmp_path):
    file = tmp_path / "solid.html"
    file.write_text(solids.html(solid), "utf-8")
    for browser in chrome.launch():
        with chrome.opened(browser, file) as tab:
            policy = [c for c in tab.complaints if "Content Security" in c or "Refused" in c]
            assert policy == [] and tab.requests == [file.as_uri()]
            labels = tab.eval_on_selector_all(".updatemenu-button", "b => b.length")
            assert labels == 2
