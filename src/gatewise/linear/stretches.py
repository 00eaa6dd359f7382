"""collapsed(network): every stretch of affine nodes between gates, multiplied out to one map.

y = W x + b, where x is what enters the stretch (the input, or what gates, products and curves give)
and y what leaves it. A network without gates is one stretch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import DataError
from gatewise.given.rows import require_network
from gatewise.ir.kinds import Affine
from gatewise.ir.network import INPUT, Network, Node, forward
from gatewise.linear.affine_map import magnitudes, rounding
from gatewise.linear.chains import F64, Factor, Scaled, product, scaled, times_power
from gatewise.linear.collapse import collapse
from gatewise.linear.parts import MOST, factors_of, layer_of, part_of
from gatewise.linear.spectra import Layer, table

ROWS, VECTORS = 64, 32
FACTOR = 3.64  # P(chi2_32 < 32 / FACTOR^2) < 1e-12


@dataclass(frozen=True, eq=False)
class Stretch:
    """y = 2**scale W x + 2**bias_scale b from `sources`, joined, to the node `name`.

    weight W (outputs, inputs), bias b (outputs,); the scales are 0 unless they were asked for.
    weight_bound, bias_bound: at least ||dW||_F and ||db||, what rounding can have changed, whatever
    the order of summation. network: the stretch alone, of which everything can be measured.
    """

    name: str
    sources: tuple[str, ...]
    nodes: tuple[Node, ...]
    weight: Tensor
    bias: Tensor
    scale: int
    bias_scale: int
    weight_bound: float
    bias_bound: float
    network: Network
    factors: tuple[Factor, ...] = ()

    def __call__(self, x: Any) -> Tensor:
        """W x + b, scaled, for rows x: (rows, outputs)."""
        y = self.network.rows(x).flatten(1) @ self.weight.T
        return times_power(y, self.scale) + times_power(self.bias, self.bias_scale)

    @cached_property
    def whole(self) -> Layer:
        """W with its singular values, norm, condition, rank, stable and effective rank."""
        held = scaled(self.weight, self.scale)
        down = math.ldexp(1.0, self.scale - held.exponent) if self.weight.any() else 1.0
        return Layer("all of it", "", held, self.weight_bound * down)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The same of every node that multiplies, where its matrix can be written out."""
        found = (layer_of(node, self.network) for node in self.network.nodes)
        return tuple(one for one in found if one is not None)

    @property
    def relative_bound(self) -> float:
        """weight_bound / ||W||_F: rigorous, and far above the error where layers cancel."""
        size = float(self.weight.norm())
        if not size:
            return math.inf if self.weight_bound else 0.0
        return self.weight_bound / size

    @cached_property
    def growth(self) -> float:
        """||W_1|| ... ||W_L|| / ||W||: by what an error in one layer can be enlarged against W."""
        logs = sum(one.log2_norm for one in self.layers) - self.whole.log2_norm
        return 2.0**logs if logs < 1000 else math.inf

    @cached_property
    def error(self) -> float:
        """||dW||_F / ||W||_F as measured: W v against the layers one by one in long double.

        The root mean square over 32 random normal v. The true value is above 3.64 times this with a
        probability below 1e-12. NaN for a stretch that is no plain chain: see `difference`.
        """
        if not self.factors or not self.weight.any():
            return math.nan
        v = np.random.default_rng(0).normal(size=(self.weight.shape[1], VECTORS))
        exact, exponent = v.astype(np.longdouble), 0
        for factor in self.factors:
            exact = factor.weight.value.numpy().astype(np.longdouble) @ exact
            down = int(np.frexp(np.abs(exact).max())[1])
            exact, exponent = np.ldexp(exact, -down), exponent + factor.weight.exponent + down
        ours = scaled(self.weight, self.scale)
        ours_v = ours.value.numpy().astype(np.longdouble) @ v.astype(np.longdouble)
        gap = ours_v - np.ldexp(exact, exponent - ours.exponent)
        mean = float(np.sqrt((gap**2).sum() / VECTORS))
        return mean / float(ours.value.norm())

    @cached_property
    def difference(self) -> float:
        """max |W x + b - f(x)| / max |f(x)| on 64 random rows, f being the stretch in float64.

        NaN where f itself overflows.
        """
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(ROWS, *self.network.input_shape, generator=generator, dtype=F64)
        theirs = forward(self.network, x).reshape(ROWS, -1)
        top = float(theirs.abs().max())
        gap = float((self(x) - theirs).abs().max())
        return gap / top if 0 < top < math.inf else (0.0 if gap == 0 else math.nan)

    def __str__(self) -> str:
        head = f"{' + '.join(self.sources)} -> {self.name}: {len(self.nodes)} affine nodes"
        unit = f", W in units of 2^{self.scale}" if self.scale else ""
        rows = [*self.layers, self.whole]
        measured = "" if math.isnan(self.error) else f", measured {self.error:.2g}"
        told = (
            f"||dW|| / ||W||: proved below {self.relative_bound:.2g}{measured} "
            f"(on random rows {self.difference:.2g})\n"
            f"the layers' norms multiply to {self.growth:.3g} times ||W||; rank at least "
            f"{self.whole.proven_rank}"
        )
        return f"{head}{unit}\n{table(rows)}\n{told}"


@dataclass(frozen=True, eq=False)
class Collapsed:
    """The stretches of a network, in order."""

    stretches: tuple[Stretch, ...]

    def __len__(self) -> int:
        return len(self.stretches)

    def __getitem__(self, name: str) -> Stretch:
        """The stretch that ends in that node."""
        found = next((s for s in self.stretches if s.name == name), None)
        if found is None:
            raise DataError(
                f"no stretch ends in '{name}': they end in "
                f"{', '.join(repr(s.name) for s in self.stretches)}"
            )
        return found

    @property
    def whole(self) -> Stretch:
        """The one map of a network without gates."""
        if not self.stretches:
            raise DataError("the network has no affine node, so there is nothing to collapse")
        if len(self) != 1 or self.stretches[0].sources != (INPUT,):
            raise DataError(
                f"the network is not affine: gates or curves cut it into {len(self)} stretches, "
                f"so no one map is the whole of it; take one of .stretches, or freeze a pattern "
                f"(gatewise.affine)"
            )
        return self.stretches[0]

    def __str__(self) -> str:
        return "\n\n".join(str(s) for s in self.stretches)


def collapsed(network: Network, at: str | None = None, *, scaled: bool = False) -> Collapsed:
    """Every maximal affine stretch as W, b with its bound; of all stretches or that ending in `at`.

    scaled: W and b with entries below 1, times powers of 2, for products that no float can hold;
    without it such a product is refused.
    """
    require_network(network)
    if network.patterns > 1:
        raise DataError(
            f"the network is frozen to {network.patterns} patterns at once: collapse one of them, "
            f"or all with gatewise.affine(...).matrix()"
        )
    network = network.to(F64, "cpu")
    ends = _ends(network)
    if at is not None and at not in ends:
        raise DataError(
            f"no stretch ends in '{at}': they end in {', '.join(map(repr, ends)) or 'no node'}"
        )
    chosen = ends if at is None else [at]
    return Collapsed(tuple(_stretch(network, name, scaled) for name in chosen))


def _ends(network: Network) -> list[str]:
    """Affine nodes that are the output, or that something not affine looks at."""
    seen = {network.output}
    for node in network.nodes:
        if not isinstance(node.kind, Affine):
            seen.update(node.inputs)
    return [n.name for n in network.nodes if isinstance(n.kind, Affine) and n.name in seen]


def _stretch(network: Network, name: str, keep: bool) -> Stretch:
    part, sources, nodes = part_of(network, name)
    if part.inputs * part.outputs > MOST:
        raise DataError(
            f"the stretch that ends in '{name}' would be a matrix of {part.outputs} x "
            f"{part.inputs} numbers, more than fits ({MOST:,}): pick another with at="
        )
    factors = factors_of(part)
    made = _walked(part, name) if factors is None else product(factors)
    return _finished(made, part, sources, nodes, tuple(factors or ()), keep)


def _finished(
    made: Factor,
    part: Network,
    sources: tuple[str, ...],
    nodes: tuple[Node, ...],
    factors: tuple[Factor, ...],
    keep: bool,
) -> Stretch:
    """The scales taken out, or refused where the numbers do not fit without them."""
    W, b = made.weight, made.offset or Scaled(torch.zeros(part.outputs, dtype=F64), 0)
    units = (W.exponent, b.exponent) if keep else (0, 0)
    name = nodes[-1].name
    if not keep:
        for what, one in (("product", W), ("offset", b)):
            if not -1000 <= one.exponent <= 1023 and bool(one.value.any()):
                raise DataError(_out_of_range(what, one.exponent, nodes))
    held = ((W, made.error), (b, made.offset_error))
    shifts = [v.exponent - unit for (v, _), unit in zip(held, units, strict=True)]
    weight, bias = (times_power(v.value, s) for (v, _), s in zip(held, shifts, strict=True))
    bound, bias_bound = (float(np.ldexp(d, s)) for (_, d), s in zip(held, shifts, strict=True))
    return Stretch(name, sources, nodes, weight, bias, *units, bound, bias_bound, part, factors)


def _out_of_range(what: str, exponent: int, nodes: Sequence[Node]) -> str:
    side = "overflows" if exponent > 0 else "vanishes"
    return (
        f"the {what} of the {len(nodes)} affine nodes from '{nodes[0].name}' to "
        f"'{nodes[-1].name}' {side}: its largest entry is about 2^{exponent}, and float64 holds "
        f"2^-1022 to 2^1023. Ask for 2^k times a matrix with collapsed(..., scaled=True)"
    )


def _walked(part: Network, name: str) -> Factor:
    """Any graph of affine nodes: one walk, and |W| walked as well for the bound."""
    weight, bias = (t[0] for t in collapse(part))
    most, most_bias = (t[0] for t in collapse(magnitudes(part)))
    if not all(bool(t.isfinite().all()) for t in (weight, bias, most, most_bias)):
        raise DataError(
            f"the weights behind '{name}' overflow float64 when multiplied, and the stretch is no "
            f"plain chain of layers, so it is not scaled: divide its largest layer by a power of 2"
        )
    factor = rounding(part)
    W, b = scaled(weight), scaled(bias)
    bounds = (factor * float(m.norm()) * (1 + 1e-9) for m in (most, most_bias))
    error, offset = (float(np.ldexp(e, -v.exponent)) for e, v in zip(bounds, (W, b), strict=True))
    return Factor(W, error, b, offset)
