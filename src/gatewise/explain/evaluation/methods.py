"""What is evaluated: methods that attribute one output of a network to its inputs, ours first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.integrated import integrated_gradients
from gatewise.ir.network import Network
from gatewise.patterns.census import census

Floats = NDArray[np.float64]
NEAR = 1e-6  # of a deviation: nearer to the reference than this, no slope is implied


@dataclass(frozen=True, eq=False)
class Attribution:
    """What a method says of some rows. At least one of `values` and `slopes` is given.

    values (rows, features): parts of the output, in its units, counted from the reference;
    base (rows,): what they are to be added to, to give the output; None: it claims no sum;
    slopes (rows, features): change of the output for one unit of each feature, near the row.
    """

    values: Floats | None = None
    base: Floats | None = None
    slopes: Floats | None = None


Attribute = Callable[[Floats], Attribution | Floats]


@dataclass(frozen=True, eq=False)
class Peer:
    """Another method, under one interface: attribute(X) -> (rows, features), or an Attribution.

    A plain array is taken as values. rebuild(network) gives the same method on another network
    of the same inputs: without it, the checks that change the network are left out.
    """

    name: str
    attribute: Attribute
    rebuild: Callable[[Network], Attribute] | None = None


@dataclass(frozen=True, eq=False)
class Method:
    """A Peer whose answers are checked and completed, so that each measure is one formula."""

    peer: Peer
    reference: Floats
    scale: Floats

    @property
    def name(self) -> str:
        return self.peer.name

    def __call__(self, x: Floats) -> Attribution:
        """The answer at x (rows, features), with its shape and finiteness checked."""
        return checked(self.peer.name, self.peer.attribute(x), x)

    def on(self, network: Network) -> Method | None:
        """The same method on another network, where it can be built again."""
        if self.peer.rebuild is None:
            return None
        peer = Peer(self.peer.name, self.peer.rebuild(network), self.peer.rebuild)
        return Method(peer, self.reference, self.scale)

    def parts(self, said: Attribution, x: Floats) -> Floats:
        """(rows, features) contributions: `values`, or else slopes times (x - reference)."""
        if said.values is not None:
            return said.values
        assert said.slopes is not None
        return said.slopes * (x - self.reference)

    def slopes(self, said: Attribution, x: Floats) -> Floats:
        """(rows, features) `slopes`, or those that the values imply: values / (x - reference).

        As in Captum's infidelity for methods that multiply by the input. 0 where x is so near the
        reference that the quotient says nothing.
        """
        if said.slopes is not None:
            return said.slopes
        assert said.values is not None
        away = x - self.reference
        far = np.abs(away) > NEAR * self.scale
        return np.divide(said.values, away, out=np.zeros_like(away), where=far)

    def vector(self, said: Attribution) -> Floats:
        """(rows, features) what a user looks at: `values`, or else slope times deviation."""
        if said.values is not None:
            return said.values
        assert said.slopes is not None
        return said.slopes * self.scale


def checked(name: str, said: Attribution | Floats, x: Floats) -> Attribution:
    """The answer as an Attribution of float64 arrays of the right shapes."""
    given = said if isinstance(said, Attribution) else Attribution(values=said)
    if given.values is None and given.slopes is None:
        raise DataError(f"method '{name}' gave neither values nor slopes: give one of them")
    values = _array(name, "values", given.values, x.shape)
    slopes = _array(name, "slopes", given.slopes, x.shape)
    return Attribution(values, _array(name, "base", given.base, x.shape[:1]), slopes)


def _array(name: str, what: str, given: Any, shape: tuple[int, ...]) -> Floats | None:
    if given is None:
        return None
    found = np.asarray(given, np.float64)
    if what == "base" and found.ndim == 0:
        found = np.full(shape, float(found))
    if found.shape != shape:
        raise DataError(
            f"method '{name}' gave {what} of shape {found.shape} for rows of shape {shape}: "
            f"give one number for each"
        )
    if not np.isfinite(found).all():
        raise DataError(f"method '{name}' gave {what} that are not finite: repair the method")
    return found


# -- ours --


def exact_rule(network: Network, reference: Floats, output: int) -> Peer:
    """The row's own affine map: values W_j (x_j - reference_j), base W . reference + b."""

    def build(net: Network) -> Attribute:
        def attribute(x: Floats) -> Attribution:
            found = census(net, net.rows(x))
            weight, offset = found.maps.rows([output])
            w = weight[:, 0].cpu().numpy()[found.ids]
            b = offset[:, 0].cpu().numpy()[found.ids]
            return Attribution(w * (x - reference), b + w @ reference, w)

        return attribute

    return Peer("exact rule", build(network), build)


def exact_path(network: Network, reference: Floats, output: int) -> Peer:
    """Integrated gradients from the reference, exact: every knot of the line is found.

    Sundararajan et al. 2017 (1703.01365); the base is f(reference). Raises NotPiecewiseAffine
    where a gate jumps: a jump is no gradient's integral.
    """

    def build(net: Network) -> Attribute:
        def attribute(x: Floats) -> Attribution:
            found = integrated_gradients(net, x, reference, output)
            return Attribution(found.values[..., 0], found.base_values[:, 0], found.slopes[..., 0])

        attribute(reference[None])
        return attribute

    return Peer("exact integrated gradients", build(network), build)
