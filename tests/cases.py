"""Named models that every room's tests use, the ones that peers misread first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """`module()` is the same each time; rows have `shape`; pieces: is it piecewise affine?"""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    pieces: bool = True

    def module(self, seed: int = 0) -> nn.Module:
        """A new module in float32 with random weights; batch norms have statistics."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.make()
            for m in module.modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm):
                    _shuffle(m)
        return module

    def rows(self, count: int = 5, seed: int = 1) -> Tensor:
        """(count, *shape) random rows in float32."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, *self.shape, generator=generator)


def _shuffle(norm: nn.modules.batchnorm._BatchNorm) -> None:
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)


class Residual(nn.Module):
    """A skip connection around two layers, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.second(torch.relu(self.first(x)))
        return self.head(F.relu(x) - x)


class Reused(nn.Module):
    """One ReLU module called three times, once inside a nested Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.body = nn.Sequential(nn.Linear(5, 7), self.relu, nn.Linear(7, 7))
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.relu(self.body(x)) + 1))


class Functional(nn.Module):
    """Activations that are functions and methods, not modules."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.layers[0](x))
        x = self.layers[1](x).relu()
        x = self.layers[2](x).clamp(min=0)
        return self.head(x)


class InPlace(nn.Module):
    """In-place activations, and an in-place change of a view that is seen through its base."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        x = self.second(x)
        x += 1
        x.view(-1, 2, 3).mul_(2)
        F.leaky_relu_(x, 0.2)
        return self.head(x)


class Branches(nn.Module):
    """Branches with different activations, concatenated, one of them sliced."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 5), nn.Linear(6, 4), nn.Linear(11, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = [torch.relu(self.left(x)), F.hardtanh(self.right(x)), x[:, 1:3]]
        return self.head(torch.cat(parts, dim=1))


class Gated(nn.Module):
    """A gated linear unit: a product of two computed halves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 12), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.glu(self.first(x), dim=-1))


class Attention(nn.Module):
    """One head of self-attention over tokens of real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2) / 2
        return self.head((torch.softmax(scores, dim=-1) @ self.v(x)).mean(dim=1))


class DLGN(nn.Module):
    """A deep linearly gated network: hard gates from a linear tower, values beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleList([nn.Linear(5, 8), nn.Linear(8, 8)])
        self.values = nn.ModuleList([nn.Linear(5, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        feature, value = x, x
        for gate, layer in zip(self.gates, self.values, strict=True):
            feature = gate(feature)
            value = layer(value) * (feature > 0).to(feature.dtype)
        return self.head(value)


class Tied(nn.Module):
    """One weight used in two places, once transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        return F.linear(x, self.first.weight.t())


class Pooled(nn.Module):
    """A small convolutional network whose flattening uses the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(4 * 3 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv(x)))
        return self.head(x.view(x.size(0), -1))


def _mlp(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3), *last)


def _activation(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        body = [nn.Linear(5, 8), layer(), nn.Linear(8, 8), layer()]
        return nn.Sequential(*body, nn.Linear(8, 2))

    return make


def _nested() -> nn.Module:
    block = nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.ReLU(), nn.Linear(6, 6)), nn.ReLU())
    return nn.Sequential(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), block, block, nn.Linear(6, 2))


def _norm_before() -> nn.Module:
    norm = nn.BatchNorm1d(8)
    return nn.Sequential(nn.Linear(5, 8), norm, nn.ReLU(), nn.Linear(8, 2)).eval()


def _norm_after() -> nn.Module:
    norm = nn.BatchNorm1d(8)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), norm, nn.Linear(8, 2)).eval()


def _train_mode() -> nn.Module:
    body = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(body, nn.Linear(8, 2)).train()


def _grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2, dilation=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(4, 2, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * 3 * 3, 3),
    ).eval()


def _max_pool() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


CASES = {
    case.name: case
    for case in [
        Case("nested_sequential", _nested, (4,)),
        Case("batch_norm_before", _norm_before, (5,)),
        Case("batch_norm_after", _norm_after, (5,)),
        Case("functional_relu", Functional, (4,)),
        Case("reused_relu", Reused, (5,)),
        Case("residual", Residual, (6,)),
        Case("in_place", InPlace, (4,)),
        Case("grouped_conv", _grouped, (4, 6, 6)),
        Case("max_pool", _max_pool, (2, 10)),
        Case("pooled_view", Pooled, (2, 6, 6)),
        Case("concat", Branches, (6,)),
        Case("prelu", _activation(lambda: nn.PReLU(8)), (5,)),
        Case("leaky_relu", _activation(lambda: nn.LeakyReLU(0.3)), (5,)),
        Case("hardtanh", _activation(nn.Hardtanh), (5,)),
        Case("relu6", _activation(nn.ReLU6), (5,)),
        Case("tied_weights", Tied, (6,)),
        Case("train_mode", _train_mode, (5,)),
        Case("dlgn", DLGN, (5,)),
        Case("linear", lambda: nn.Linear(4, 3), (4,)),
        Case("mlp", _mlp, (5,)),
        Case("softmax_head", lambda: _mlp(nn.Softmax(dim=1)), (5,)),
        Case("sigmoid_head", lambda: _mlp(nn.Sigmoid()), (5,)),
        Case("glu", Gated, (5,), pieces=False),
        Case("gelu", _activation(nn.GELU), (5,), pieces=False),
        Case("attention", Attention, (4, 6), pieces=False),
    ]
}
PIECEWISE = [name for name, case in CASES.items() if case.pieces]
