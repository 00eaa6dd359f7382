"""Every hot path on a device against the same on the CPU: `python device_jobs.py fake` (or cuda).

A job compares and returns nothing; `copies` names the functions that may bring tensors back to the
host on its way (a file stands for all of its functions). Prints JSON: for each job its error and
what came back.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

import gatewise as gw
from gatewise import models
from gatewise.bilinear import BilinearLayer
from gatewise.patterns import exact, fixed_point
from gatewise.patterns.on_device import group

F64 = torch.float64
RNG = np.random.default_rng(0)
JOBS: dict[str, tuple] = {}
TO_HOST = "ir/network.py:change"  # the network itself, by `to(device="cpu")`
SLOPES = "ir/kinds.py:_pick"  # the slopes of a gate: two or three numbers
PACKED = "ir/pattern.py:bits"  # a bit a gate, or a few
FINITE = "explain/compute.py:_finite_rows"  # a bit a row
DOUBTS = "patterns/observe.py"  # rows that are near a knot: a bit a row
ANSWER = "tests"
OUTPUTS = "api/maps.py:census"  # the outputs, to see that they are finite
DISTINCT = "patterns/on_device.py:_host"  # distinct patterns, counts, firsts, ids
CENSUS = (PACKED, FINITE, DOUBTS, OUTPUTS, DISTINCT)
MAPS = (*CENSUS, SLOPES)
KERNEL = (PACKED, DOUBTS, "dual/kernels/sides.py:_logs", "dual/kernels/on_device.py:fill")


def job(*copies):
    def put(function):
        JOBS[function.__name__] = (function, copies)
        return function

    return put


@cache
def both(model, *shape):
    """The network on the CPU, and on the device: read once, the reader is not what is looked at."""
    torch.manual_seed(0)
    network = gw.read(model().double().eval(), torch.zeros(1, *shape, dtype=F64))
    return network, network.to(device=DEVICE)


def same(a, b):
    """Equal to rounding: another layout may sum in another order."""
    a, b = (t.cpu() if isinstance(t, torch.Tensor) else torch.as_tensor(t) for t in (a, b))
    assert a.shape == b.shape, (a.shape, b.shape)
    room = 1e-12 if DEVICE.type == "fake" else 1e-9
    assert torch.allclose(a.double(), b.double(), rtol=room, atol=room), (a - b).abs().max()


def there(*tensors):
    assert all(t.device == DEVICE for t in tensors)


def mlp():
    return nn.Sequential(
        nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    )


def odd():
    gates = nn.LeakyReLU(), nn.Hardtanh(), nn.PReLU()
    layers = [layer for gate in gates for layer in (nn.Linear(5, 5), gate)]
    return nn.Sequential(*layers, nn.Linear(5, 2))


def conv():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 3),
        nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2),
    )  # fmt: skip


def plain_conv():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))  # fmt: skip


NETWORKS = {"mlp": (mlp, 5), "odd": (odd, 5), "conv": (conv, 1, 8, 8)}
X = RNG.normal(size=(200, 5))
X[3] = 0
IMAGES = RNG.normal(size=(40, 64))
IMAGES[3] = 0


def each(names=tuple(NETWORKS)):
    for name in names:
        cpu, net = both(*NETWORKS[name])
        yield cpu, net, IMAGES if name == "conv" else X


@job(ANSWER)
def refusals_of_the_fake_device():
    if DEVICE.type != "fake":
        return
    x, y, log = torch.ones(3, device=DEVICE), torch.ones(3), fake_device.LOG
    for f in (
        lambda: x + y,
        lambda: torch.cat([x, y]),
        lambda: y[x > 0],
        lambda: torch.where(y > 0, x, x),
        lambda: x.long() @ x.long(),
        lambda: torch.randn(3, device=DEVICE, generator=torch.Generator()),
        lambda: torch.linalg.lstsq(x[:, None], x[:, None], driver="gelsd"),
    ):
        fails(fake_device.Mixed, f)
    fails(TypeError, lambda: x.numpy())
    fails(TypeError, lambda: np.asarray(x))
    assert not log.copies
    assert (x + torch.tensor(1.0)).device == x[torch.tensor([0])].device == DEVICE
    assert x.cpu().tolist() == [1, 1, 1]
    assert log.copies == {ANSWER: 1}
    assert log.bytes[ANSWER] == 12
    y.copy_(x)
    assert log.copies[ANSWER] == 2
    assert bool((x == 1).all())
    assert sum(log.scalars.values()) == 1


def fails(error, f):
    try:
        f()
    except error:
        return
    raise AssertionError(f"not refused: line {f.__code__.co_firstlineno}")


@job(ANSWER, SLOPES)
def values():
    for cpu, net, x in each():
        there(net(x))
        same(net(x), cpu(x))


@job(*CENSUS, SLOPES, TO_HOST)  # rows on a tie are settled on the host
def census():
    for cpu, net, x in each():
        found, want = gw.census(net, x, batch_size=64), gw.census(cpu, x)
        there(found.output)
        for name in ("ids", "counts", "first", "undecided"):
            assert np.array_equal(getattr(found, name), getattr(want, name)), name
        assert np.array_equal(found.pattern.bits, want.pattern.bits)


@job(*CENSUS)
def census_brings_back_packed_patterns():
    wide = nn.Sequential(nn.Linear(5, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(),
                         nn.Linear(400, 1))  # fmt: skip
    _, net = both(lambda: wide, 5)
    x = torch.as_tensor(RNG.normal(size=(512, 5)), device=DEVICE)
    gw.census(net, x)
    if DEVICE.type == "fake":  # 104 bytes of gates a row, and a few numbers
        assert sum(fake_device.LOG.bytes.values()) < 512 * (104 + 32)


@job(PACKED, SLOPES, TO_HOST, DOUBTS, "patterns/streaming")
def streamed_census():
    import pyarrow.parquet

    cpu, net = both(mlp, 5)
    with tempfile.TemporaryDirectory() as folder:
        table = pyarrow.table({f"x{j}": X[:, j] for j in range(5)})
        pyarrow.parquet.write_table(table, Path(folder) / "rows.parquet")
        found, want = gw.census(net, folder), gw.census(cpu, X)
    for name in ("counts", "first"):
        assert np.array_equal(getattr(found, name), getattr(want, name)), name
    assert np.array_equal(found.pattern.bits, want.pattern.bits)


def decided(decide, *networks):
    """Rows are settled on the host: the network and the rows are brought there."""
    for cpu, net in networks:
        x = net.rows(RNG.normal(size=(6, net.inputs)))
        (a, done), (b, _) = decide(net, x), decide(cpu, x.cpu())
        assert done.any()
        assert np.array_equal(a, b)


@job(TO_HOST, ANSWER, "patterns/exact.py")
def decisions_in_rationals():
    decided(exact.settle, both(mlp, 5))


@job(TO_HOST, ANSWER, "patterns/fixed_point.py")
def decisions_in_fixed_point():
    decided(fixed_point.settle, both(mlp, 5), both(plain_conv, 1, 8, 8))


@job(*MAPS, ANSWER)
def maps():
    for cpu, net, x in each():
        a, b = gw.affine(net, x[:20]), gw.affine(cpu, x[:20])
        g = np.ones((20, cpu.outputs))
        there(a.matrix(), a.offset)
        for f in (lambda m: m.matrix(), lambda m: m.offset):
            same(f(a), f(b))
        for f, v in (("mv", x[:20]), ("bound", x[:20]), ("rmv", g)):
            same(getattr(a, f)(v), getattr(b, f)(v))


@job(*MAPS)
def float32_maps():
    cpu, _ = both(mlp, 5)
    net = cpu.to("float32", DEVICE)
    a = gw.affine(net, X[:20].astype(np.float32))
    there(a.bound(X[:20]), a.matrix())
    assert a.matrix().dtype == torch.float32


@job(*MAPS, ANSWER, TO_HOST, "regions/margins.py:_rows", "regions/halfspaces.py:verdict")
def regions():
    for cpu, net, x in each():
        a, b = gw.region(net, x[:8]), gw.region(cpu, x[:8])
        same(a.margin().l2, b.margin().l2)
        same(a.contains(x[:8]), b.contains(x[:8]))


@job(SLOPES, ANSWER)
def traces():
    cpu, net = both(odd, 5)
    for name in ("t", "values"):
        a, b = (getattr(gw.trace(n, X[:4], np.ones(5)), name) for n in (net, cpu))
        same(a, b)


@job()
def groups_of_patterns():
    bits = torch.as_tensor(RNG.integers(0, 2, (90, 16)).astype(np.uint8), device=DEVICE)
    there(group(bits).inverse, group(bits % 1).first)


@job(*KERNEL)
def path_kernels():
    for scale in ("raw", "normalised", "cosine", "log"):
        cpu, net = both(mlp, 5)
        for x2 in (None, X[:7]):
            a, b = (gw.dual.npk(n, X[:30], x2, scale=scale).values for n in (net, cpu))
            assert np.allclose(a, b, rtol=1e-12, atol=0, equal_nan=True)
    a, b = (gw.dual.npk(n, X[:30], inputs=False).values for n in (net, cpu))
    assert np.array_equal(a, b)


@job(PACKED, DOUBTS, "dual/kernels/path_kernel.py:__call__")
def path_kernels_of_convolutions():
    cpu, net = both(plain_conv, 1, 8, 8)
    for function in (gw.dual.npk, gw.dual.expected_kernel, gw.dual.expected_tangent_kernel):
        a, b = (function(n, IMAGES[:6]).values for n in (net, cpu))
        assert np.allclose(a, b, rtol=1e-12)


@job(SLOPES, "dual/tangents/empirical.py:_tiled", "dual/tangents/factors.py:<dictcomp>")
def tangent_kernels():
    for model, shape, x in ((mlp, (5,), X[:20]), (plain_conv, (1, 8, 8), IMAGES[:6])):
        cpu, net = both(model, *shape)
        for outputs in ("sum", "full"):
            a, b = (gw.dual.tangent_kernel(n, x, outputs=outputs).values for n in (net, cpu))
            assert np.allclose(a, b, rtol=1e-10)


@job("dual/tangents/split.py:tangent_split", "tests")
def split_tangent_kernels():
    torch.manual_seed(0)
    module = models.DLGN([5, 8, 8, 1])
    a = gw.dual.tangent_split(module.to(DEVICE), X[:10])
    b = gw.dual.tangent_split(module.cpu(), X[:10])
    assert np.allclose(a.value, b.value)
    assert np.allclose(a.feature, b.feature)


@job(TO_HOST, PACKED, DOUBTS, SLOPES, "dual/paths/shares.py")
def paths_and_units():
    _, net = both(mlp, 5)
    gw.dual.strongest_paths(net, X[:1])
    gw.dual.partings(net, X[:1], X[1:2])
    gw.dual.overlap(net, X)
    gw.dual.unit_shares(net, X[:5])


def layers(**more):
    rng = np.random.default_rng(1)
    parts = (rng.normal(size=s) for s in ((10, 6), (10, 6), (4, 10)))
    made = BilinearLayer.from_weights(*parts, **more)
    return made, made.to(device=DEVICE)


@job(ANSWER)
def bilinear_spectra():
    rng = np.random.default_rng(2)
    large = BilinearLayer.from_weights(
        *(rng.normal(size=s) for s in ((30, 260), (30, 260), (5, 30)))
    )
    for cpu, net, k in ((*layers(), 3), (large, large.to(device=DEVICE), 2)):
        a, b = (gw.bilinear.spectrum(one, k) for one in (net, cpu))
        there(a.values, a.vectors, a.residuals)
        same(a.values, b.values)
    rows = np.eye(40, 260)  # one eigenvalue many times: found in blocks
    tied = BilinearLayer.from_weights(rows, rows, np.ones((1, 40)))
    same(*(gw.bilinear.spectrum(t, 3).values for t in (tied.to(device=DEVICE), tied)))


@job(ANSWER)
def bilinear_layers_are_read_and_used():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.v, self.p = nn.Linear(6, 10), nn.Linear(6, 10), nn.Linear(10, 4)

        def forward(self, x):
            return self.p(self.w(x) * self.v(x))

    x, labels = RNG.normal(size=(30, 6)), RNG.integers(0, 4, 30)
    read = [gw.bilinear.bilinear_layer(n) for n in both(Block, 6)[::-1]]
    there(read[0].W, read[0].P)
    for f in (
        lambda one: one(x),
        lambda one: gw.bilinear.tensor(one, read_out=False),
        lambda one: gw.bilinear.interaction(one, [1, 0, 0, 0]),
        lambda one: gw.bilinear.truncation(gw.bilinear.spectrum(one, 5), x, labels).measured,
        lambda one: gw.bilinear.contributions(gw.bilinear.spectrum(one, 3), x).total,
        lambda one: gw.bilinear.curvature(one, [1, 0, 0, 0], x).principal,
    ):
        a, b = (f(one) for one in read)
        there(a)
        same(a, b)


@job(ANSWER)
def bilinear_bases_and_masks():
    pair = layers(embedding=RNG.normal(size=(6, 5)))[::-1]
    x = RNG.normal(size=(7, 6))
    for f in (
        lambda one: gw.bilinear.pseudo_inverse_masks(gw.bilinear.spectrum(one, 3), 2).masks,
        lambda one: gw.bilinear.eigenvector_masks(gw.bilinear.spectrum(one, 3)).masks,
        lambda one: gw.bilinear.gradient_masks(one, x).masks,
        lambda one: gw.bilinear.strongest_pairs(one, x, [1, 0, 0, 0.0]).values,
        lambda one: gw.bilinear.effective_rank(gw.bilinear.spectrum(one, 3).values),
        lambda one: gw.bilinear.hosvd(one).outputs,
        lambda one: gw.bilinear.cp(one, 3, steps=5).layer.W,
    ):
        a, b = (f(one) for one in pair)
        there(a)
        same(a, b)


@job(ANSWER, "bilinear/deep/directions.py:_distinct")
def bilinear_stacks():
    rng = np.random.default_rng(3)
    last = BilinearLayer.from_weights(*(rng.normal(size=s) for s in ((9, 4), (9, 4), (3, 9))))
    a, b = (
        gw.bilinear.stack([one, two])
        for one, two in zip(layers()[::-1], (last.to(device=DEVICE), last), strict=True)
    )
    x = RNG.normal(size=(7, 6))
    same(a(x), b(x))
    there(gw.bilinear.truncate(a, [3]).stack(x))
    a, b = (gw.bilinear.top_directions(s, [1, 0, 0], starts=6, steps=60) for s in (a, b))
    there(a.values, a.found)
    same(a.values, b.values)


@job("models/batches.py:held_out", "read/torch/copies.py:frozen_copy")
def training():
    x, y = X[:60].astype(np.float32), RNG.integers(0, 2, 60)
    images = RNG.normal(size=(8, 1, 8, 8)).astype(np.float32)
    gated, width = models.DLGN([5, 8, 8, 2]), models.c4gap(4, channels=1, outputs=2)
    models.fit(gated, x, y, epochs=1, device=DEVICE, validation=0.2)
    models.fit(models.ConvDLGN(width).to(DEVICE), images, y[:8], epochs=1)
    models.fit_bilinear(models.BilinearMLP(5, 8, 2), x, y, epochs=1, batch=16, device=DEVICE)
    tokens = models.BilinearTransformer(7, 8, norm="rmsnorm").to(DEVICE)
    models.fit_next_token(tokens, torch.randint(0, 7, (6, 5)), epochs=1)
    models.linearise_weights(
        nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).to(DEVICE), x, y
    )
    there(next(gated.parameters()), next(tokens.parameters()))
    assert gw.read(gated, torch.zeros(1, 5)).device.type == "cpu"
    assert gw.read(gated, torch.zeros(1, 5), device=DEVICE).device == DEVICE


@job(*MAPS, TO_HOST, "explain", "regions/margins.py")
def explanations():
    cpu, net = both(mlp, 5)
    a, b = (gw.explain(n, X) for n in (net, cpu))
    assert a.network.device == DEVICE
    for name in ("values", "base_values", "coefficients", "intercepts"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-12)
    assert np.allclose(gw.integrated_gradients(a).values, gw.integrated_gradients(b).values)
    assert np.allclose(gw.profile(a).mean, gw.profile(b).mean)
    gw.reason_codes(a, 2)


def run(device: torch.device) -> dict[str, dict]:
    found = {}
    for name, (function, allowed) in JOBS.items():
        if device.type == "fake":
            fake_device.LOG.clear()
        begun = time.process_time()
        try:
            function()
            error = None
        except Exception:  # noqa: BLE001 (every job is to be heard)
            error = traceback.format_exc()[-1500:]
        copies = dict(fake_device.LOG.copies) if device.type == "fake" else {}
        strange = [c for c in copies if not any(c.startswith(a) for a in allowed)]
        found[name] = {"error": error, "strange": strange, "copies": copies}
        found[name]["seconds"] = time.process_time() - begun
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "fake":
        import fake_device

        DEVICE = fake_device.DEVICE
    else:
        DEVICE = torch.device(sys.argv[1], 0)
    print(json.dumps(run(DEVICE)))
