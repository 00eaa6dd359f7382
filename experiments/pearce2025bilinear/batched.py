"""Bilinear networks of one shape trained side by side: forward, backward and AdamW written out.

y = H (W E x * V E x), with E x added to the products where there is a residual stream and biases
on W and V where asked; softmax cross-entropy. Every network is a row of one matrix of
parameters, so weight decay differs between rows at no cost and one fused Adam step serves all.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from data import Images, moved, noisy
from torch import Tensor

from gatewise.bilinear import BilinearLayer

BANK = 1 << 22  # normals that noise is read from
PART = 4096  # rows of a forward pass without gradients


@dataclass(frozen=True)
class Spec:
    """One network: what it learns, and how. noise: standard deviation added to the pixels."""

    data: str
    hidden: int
    noise: float = 0.0
    decay: float = 1.0
    seed: int = 0
    passes: int = 12
    batch: int = 512
    lr: float = 1e-3
    kind: str = ""  # of augmentation
    level: float = 0.0
    residual: bool = False
    bias: bool = False
    task: str = "classes"
    rows: int | None = None

    @property
    def shape(self) -> tuple:
        """Networks of equal shape are trained together."""
        names = ("data", "hidden", "passes", "batch", "lr", "residual", "bias", "task", "rows")
        return tuple(getattr(self, name) for name in names)

    @property
    def outputs(self) -> int:
        return 2 if self.task == "challenge" else 10

    @property
    def file(self) -> str:
        """A name of every setting."""
        return " ".join(f"{f.name[:3]}{getattr(self, f.name)}" for f in fields(self)) + ".npz"


@dataclass(frozen=True, eq=False)
class Net:
    """A trained network: the layer with its embedding, accuracies, CPU seconds spent on it."""

    spec: Spec
    layer: BilinearLayer
    test: float
    train: float
    cpu: float


class Stack:
    """Networks side by side: parameters (nets, numbers) and views of them, gradients alike."""

    def __init__(self, specs: list[Spec], inputs: int = 784) -> None:
        self.specs, self.inputs = specs, inputs
        one = specs[0]
        self.d, self.out, self.bias, self.residual = one.hidden, one.outputs, one.bias, one.residual
        d, n = self.d, len(specs)
        self.shapes = [(inputs, d), (d, 2 * d), (d, self.out)]
        count = sum(a * b for a, b in self.shapes) + (2 * d if self.bias else 0)
        self.flat, self.grad = torch.zeros(n, count), torch.zeros(n, count)
        self.E, self.W, self.H, self.b = self.views(self.flat)
        self.gE, self.gW, self.gH, self.gb = self.views(self.grad)
        for k, spec in enumerate(specs):
            self.start(k, spec.seed)

    def views(self, flat: Tensor) -> list[Tensor]:
        """E (nets, inputs, d), W and V side by side (nets, d, 2 d), H (nets, d, out), biases."""
        found, at = [], 0
        for a, b in self.shapes:
            found.append(flat[:, at : at + a * b].view(-1, a, b))
            at += a * b
        return [*found, flat[:, at:].unsqueeze(1)]

    def start(self, k: int, seed: int) -> None:
        """Uniform in +-1 / sqrt(fan in), as torch starts its linear layers."""
        draw = torch.Generator().manual_seed(seed)
        for view, fan in (
            (self.E, self.inputs),
            (self.W, self.d),
            (self.H, self.d),
            (self.b, self.d),
        ):
            if view[k].numel():
                view[k].uniform_(-1 / math.sqrt(fan), 1 / math.sqrt(fan), generator=draw)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """h = E x, the two sides (nets, rows, 2 d), the products z and the logits."""
        h = torch.bmm(x, self.E)
        ab = torch.baddbmm(self.b, h, self.W) if self.bias else torch.bmm(h, self.W)
        z = ab[..., : self.d] * ab[..., self.d :]
        if self.residual:
            z += h
        return h, ab, z, torch.bmm(z, self.H)

    def backward(self, x: Tensor, y: Tensor) -> None:
        """Gradients of the mean cross-entropy of rows x (nets, rows, inputs), y (nets, rows)."""
        h, ab, z, logits = self.forward(x)
        dy = torch.softmax(logits, -1)
        dy.scatter_add_(2, y.unsqueeze(2), dy.new_full((1, 1, 1), -1.0).expand(*y.shape, 1))
        dy /= x.shape[1]
        torch.bmm(z.mT, dy, out=self.gH)
        dz = torch.bmm(dy, self.H.mT)
        dab = torch.empty_like(ab)
        torch.mul(dz, ab[..., self.d :], out=dab[..., : self.d])
        torch.mul(dz, ab[..., : self.d], out=dab[..., self.d :])
        torch.bmm(h.mT, dab, out=self.gW)
        if self.bias:
            torch.sum(dab, 1, keepdim=True, out=self.gb)
        dh = torch.bmm(dab, self.W.mT)
        if self.residual:
            dh += dz
        torch.bmm(x.mT, dh, out=self.gE)

    def accuracy(self, x: Tensor, y: Tensor) -> Tensor:
        """The share of rows that each network gets right, (nets,)."""
        right = torch.zeros(len(self.specs))
        for i in range(0, len(x), PART):
            part = x[i : i + PART].expand(len(self.specs), -1, -1)
            right += (self.forward(part)[-1].argmax(2) == y[i : i + PART]).sum(1)
        return right / len(x)

    def layer(self, k: int) -> BilinearLayer:
        """Network k as the library's layer, in float64."""
        E, W, H = (view[k].mT for view in (self.E, self.W, self.H))
        sides = self.b[k, 0].split(self.d) if self.bias else (None, None)
        return BilinearLayer.from_weights(
            W[: self.d],
            W[self.d :],
            H,
            w_bias=sides[0],
            v_bias=sides[1],
            skip=H if self.residual else None,
            embedding=E,
        )


def train(specs: list[Spec], images: Images) -> Stack:
    """AdamW with a cosine to 0. Start, order of rows and noise are those of a network's seed."""
    one = specs[0]
    stack = Stack(specs, images.x.shape[1])
    bank = torch.empty(BANK).normal_(generator=torch.Generator().manual_seed(1))
    rows = {s.seed: torch.Generator().manual_seed(10_000 + s.seed) for s in specs}
    noise = [torch.Generator().manual_seed(20_000 + s.seed) for s in specs]
    stack.flat.grad = stack.grad
    adam = torch.optim.Adam([stack.flat], lr=one.lr, fused=True)
    decay = torch.tensor([s.decay for s in specs]).unsqueeze(1)
    x = torch.empty(len(specs), one.batch, images.x.shape[1])
    steps = len(images.x) // one.batch
    for t in range(one.passes * steps):
        if t % steps == 0:
            order = {seed: torch.randperm(len(images.x), generator=g) for seed, g in rows.items()}
        batch = {seed: o[t % steps * one.batch :][: one.batch] for seed, o in order.items()}
        seen: dict[tuple, Tensor] = {}
        for k, spec in enumerate(specs):
            key = spec.seed, spec.kind, spec.level
            if key not in seen:
                seen[key] = moved(images.x[batch[spec.seed]], *key[1:], rows[spec.seed])
            x[k] = noisy(seen[key], spec.kind, spec.level, spec.noise, bank, noise[k])
        stack.backward(x, torch.stack([images.y[batch[s.seed]] for s in specs]))
        lr = one.lr * 0.5 * (1 + math.cos(math.pi * t / (one.passes * steps)))
        adam.param_groups[0]["lr"] = lr
        stack.flat.mul_(1 - lr * decay)
        adam.step()
    return stack


# ---------------------------------------------------------------- what was learnt is kept


def save(path: Path, net: Net) -> None:
    """Written aside and renamed: the file is always whole. Weights in float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("W", "V", "P", "w_bias", "v_bias", "embedding")
    held = {n: getattr(net.layer, n) for n in names if getattr(net.layer, n) is not None}
    numbers = {n: np.float64(getattr(net, n)) for n in ("test", "train", "cpu")}
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        np.savez(file, **{k: v.numpy().astype(np.float32) for k, v in held.items()}, **numbers)
    aside.replace(path)


def load(path: Path, spec: Spec) -> Net:
    """What `save` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        held = {name: kept[name] for name in kept.files}
    test, train_, cpu = (float(held.pop(n)) for n in ("test", "train", "cpu"))
    W, V, P = (held.pop(n) for n in ("W", "V", "P"))
    layer = BilinearLayer.from_weights(W, V, P, skip=P if spec.residual else None, **held)
    return Net(spec, layer, test, train_, cpu)


def learnt(specs: list[Spec], images_of, work: Path, together: int = 6) -> dict[Spec, Net]:
    """Every network: from the folder `work` where it is there, else learnt and put there.

    images_of(spec) gives the data; at most `together` networks of a shape are trained at once.
    """
    missing = [s for s in dict.fromkeys(specs) if not (work / s.file).exists()]
    for shape in dict.fromkeys(s.shape for s in missing):
        mine = [s for s in missing if s.shape == shape]
        for at in range(0, len(mine), together):
            _learn(mine[at : at + together], images_of(mine[0]), work)
    return {s: load(work / s.file, s) for s in dict.fromkeys(specs)}


def _learn(specs: list[Spec], images: Images, work: Path) -> None:
    begun = time.process_time()
    with torch.no_grad():
        stack = train(specs, images)
        test = stack.accuracy(images.test_x, images.test_y).tolist()
        seen = stack.accuracy(images.x, images.y).tolist()
    cpu = (time.process_time() - begun) / len(specs)
    for k, spec in enumerate(specs):
        save(work / spec.file, Net(spec, stack.layer(k), test[k], seen[k], cpu))
        print(
            f"{spec.file[:-4]}: test {test[k]:.4f} train {seen[k]:.4f}, {cpu:.1f} CPU s", flush=True
        )
