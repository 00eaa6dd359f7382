"""Census, maps, path kernels and spectra on a GPU, by the clock.

    python -m benchmarks.gpu [--device cpu] [--small] [--out FILE]

The floor is what the job cannot do without, at rates measured on that device in the same run: its
products of matrices, and the bytes that are read and written once. The network and the rows lie
on the device; what comes back (packed patterns, counts, kernels) is part of the time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

import gatewise as gw
from benchmarks.measure import (
    Figures,
    Job,
    Run,
    Setup,
    Unavailable,
    Way,
    measured,
    perceptron,
    short,
    weights,
)
from gatewise.bilinear import BilinearLayer, spectrum
from gatewise.linear.affine_map import AffineMap

F32, F64 = torch.float32, torch.float64
BATCH = 1 << 17  # rows of a census at once


def there(device: str) -> torch.device:
    """The device, or why there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("no GPU: torch sees none")
    return torch.empty(0, device=device).device


def done(run: Run, device: torch.device) -> Run:
    """The same, over once the device is."""
    if device.type != "cuda":
        return run

    def waited() -> object:
        answer = run()
        torch.cuda.synchronize(device)
        return answer

    return waited


def products(flops: float, device: torch.device, dtype: torch.dtype, width: int = 2048) -> Way:
    """The FLOPs at the rate of square matrices there."""
    width = width if device.type == "cuda" else 512
    a, b = (torch.randn(width, width, dtype=dtype, device=device) for _ in range(2))
    name = f"{short(flops)}FLOP as {str(dtype).removeprefix('torch.')} products"
    return Way(name, done(lambda: a @ b, device), flops / (2 * width**3))


def moved(count: float, device: torch.device) -> Way:
    """The bytes, read and written together, at the rate of a large copy there."""
    size = 256 << 20 if device.type == "cuda" else 64 << 20
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return Way(f"{short(count)}B moved", done(lambda: target.copy_(source), device),
               count / (2 * size))  # fmt: skip


def back(count: float, device: torch.device) -> list[Way]:
    """The bytes on their way to the host."""
    if device.type != "cuda":
        return []
    size = 64 << 20
    source, target = torch.ones(size, dtype=torch.uint8, device=device), torch.ones(size).byte()
    return [Way(f"{short(count)}B to the host", done(lambda: target.copy_(source), device),
                count / size)]  # fmt: skip


def memory(device: torch.device) -> Callable[[], float] | None:
    """MB that were taken there at most."""
    if device.type != "cuda":
        return None
    return lambda: torch.cuda.max_memory_allocated(device) / 1e6


def network(sizes: tuple[int, ...], device: torch.device) -> gw.Network:
    """A perceptron in float64 on the device."""
    example = torch.zeros(1, sizes[0], dtype=F64)
    return gw.read(perceptron(sizes, F64), example, device=device)


def rows(count: int, width: int, device: torch.device) -> torch.Tensor:
    """Normal rows, the same ones on every device."""
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(0), dtype=F64)
    return drawn.to(device)


def census(sizes: tuple[int, ...], count: int, device: str) -> Setup:
    """Rows into clusters: the floor is one forward pass and the pre-activations, once."""
    place = there(device)
    net, x = network(sizes, place), rows(count, sizes[0], place)
    cpu = net.to(device="cpu")

    def right(found: object) -> str:
        want = gw.census(cpu, x[:1000].cpu())
        same = (found.pattern.bits[found.ids[:1000]] == want.pattern.bits[want.ids]).all()
        assert same
        return f"{len(found):,} clusters, the first 1,000 rows as on the CPU"

    floor = [products(2.0 * count * weights(sizes), place, F64)]
    floor += [moved(8.0 * count * (sizes[0] + 2 * sum(sizes[1:])), place)]
    floor += back(count * (sum(sizes[1:-1]) / 8 + 4), place)
    ours = done(lambda: gw.census(net, x, batch_size=BATCH), place)
    return Setup(Way("gatewise", ours), floor, check=right, memory=memory(place))


def maps(sizes: tuple[int, ...], count: int, device: str) -> Setup:
    """Affine maps of so many rows' regions, multiplied out to (rows, outputs, inputs)."""
    place = there(device)
    net, x = network(sizes, place), rows(count, sizes[0], place)
    held = AffineMap(net, gw.pattern(net, x))

    def right(found: object) -> str:
        said = torch.einsum("noi,ni->no", found, x) + held.offset
        off = float((said - net(x)).abs().max())
        assert off < 1e-8, off
        return f"W x + b off f by {off:.0e}"

    floor = [products(2.0 * count * sizes[-1] * weights(sizes[:-1]), place, F64)]
    floor += [moved(8.0 * count * sizes[-1] * sizes[0], place)]
    return Setup(
        Way("gatewise", done(held.matrix, place)), floor, check=right, memory=memory(place)
    )


def kernel(sizes: tuple[int, ...], count: int, device: str) -> Setup:
    """The neural path kernel of all pairs of rows, float64, brought to the host."""
    place = there(device)
    net, x = network(sizes, place), rows(count, sizes[0], place)
    pairs = count * (count + 1) / 2

    def right(found: object) -> str:
        want = gw.dual.npk(net.to(device="cpu"), x[:200].cpu(), scale="cosine").values
        off = float(abs(found.values[:200, :200] - want).max())
        assert off < 1e-12, off
        return f"off the CPU's by {off:.0e}"

    floor = [products(2 * pairs * sum(sizes[1:-1]), place, F32)]
    floor += [products(2 * pairs * sizes[0], place, F64), *back(8 * pairs, place)]
    ours = done(lambda: gw.dual.npk(net, x, scale="cosine"), place)
    return Setup(Way("gatewise", ours), floor, check=right, memory=memory(place))


def spectra(d: int, h: int, o: int, device: str) -> Setup:
    """10 eigenpairs of every output of a bilinear layer in float32: the floor checks them once."""
    place = there(device)
    rng = torch.Generator().manual_seed(0)
    scale = torch.arange(1, d + 1, dtype=F64) ** -0.75
    W, V = (torch.randn(h, d, generator=rng, dtype=F64) * scale for _ in range(2))
    P = torch.randn(o, h, generator=rng, dtype=F64)
    here = BilinearLayer.from_weights(W / d**0.5, V / d**0.5, P / h**0.5, dtype="float32")
    layer = here.to(device=place)

    def right(found: object) -> str:
        worst = float((found.residuals / found.values.abs().amax(1, keepdim=True)).max())
        assert worst < 1e-2, worst
        return f"largest residual {worst:.0e} of |λ|"

    floor = [products(2.0 * o * 10 * 4 * h * d, place, F32)]
    ours = done(lambda: spectrum(layer, 10), place)
    return Setup(Way("gatewise", ours), floor, check=right, memory=memory(place))


def on(device: str, small: bool) -> list[Job]:
    """The jobs on a device."""
    many, some, pairs = (20_000, 200, 500) if small else (4_000_000, 20_000, 20_000)
    deep = (64, 48, 48, 10) if small else (784, 512, 512, 512, 512, 10)
    layer = (64, 48, 10) if small else (784, 512, 64)
    job = partial(Job, clock="wall")
    arrow = "-".join(map(str, deep))
    return [
        job(f"census, {many:,} rows, 20-40-40-1, {device}",
            partial(census, (20, 40, 40, 1), many, device)),
        job(f"census, {many // 40:,} rows, {arrow}, {device}",
            partial(census, deep, many // 40, device)),
        job(f"{some:,} maps, {arrow}, {device}", partial(maps, deep, some, device)),
        job(f"path kernel, {pairs:,} rows, {arrow}, {device}",
            partial(kernel, deep, pairs, device)),
        job(f"10 eigenpairs an output, {'-'.join(map(str, layer))}, {device}",
            partial(spectra, *layer, device)),
    ]  # fmt: skip


def jobs(size: str) -> list[Job]:
    """For the table of all benchmarks."""
    return on("cuda", small=size == "quick")


def line(found: Figures) -> str:
    """One job, as a row."""
    if found.failed:
        return f"{found.name:52}  {found.failed}"
    ours, floor = found.ours, found.floor
    return (
        f"{found.name:52}{ours.wall:10.4f}{floor.wall:10.4f}{floor.ratio:8.1f}{found.MB:9.0f}  "
        f"{found.note}"
    )


def main() -> None:
    """Run them on one device, print the table, and its JSON to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: torch sees none here. --device cpu runs the same jobs on the CPU")
        return
    what = torch.cuda.get_device_name() if args.device == "cuda" else "the CPU, one thread"
    print(f"on {what}; seconds by the clock\n{'':52}{'ours':>10}{'floor':>10}{'ratio':>8}{'MB':>9}")
    found = []
    for one in on(args.device, args.small):
        found.append(measured("gpu", one, "quick" if args.small else "default"))
        print(line(found[-1]), flush=True)
    if args.out:
        said = {"device": what, "jobs": [asdict(f) for f in found]}
        args.out.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
