"""One row explained: y_u = Σ_i λ_i (t_i · x)², term by term, with what the kept terms leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.spectral.spectrum import Spectrum


@dataclass(frozen=True, eq=False)
class Contributions:
    """terms (rows, m, k): λ_i (t_i · x)²; rest (rows, m): what is left; total: the outputs.

    terms.sum(2) + rest = total, exactly by construction; activations (rows, m, k): t_i · x.
    """

    terms: Tensor
    rest: Tensor
    total: Tensor
    activations: Tensor

    def __str__(self) -> str:
        lines = [f"{len(self.total)} rows; the first, output by output (terms .., rest = total):"]
        for u in range(min(12, self.total.shape[1])):
            listed = "  ".join(f"{v:+.3g}" for v in self.terms[0, u, :6].tolist())
            rest, total = float(self.rest[0, u]), float(self.total[0, u])
            lines.append(f"{u:4d}: {listed} ..  {rest:+.3g} = {total:+.4g}")
        return "\n".join(lines)


def contributions(found: Spectrum, X: Any) -> Contributions:
    """The terms of every row X (see `Spectrum.coordinates`) and direction."""
    x = found.coordinates(X)
    seen = torch.einsum("rn,ukn->ruk", x, found.readers)
    terms = found.values * seen.square()
    total = found.forms.at(x)
    return Contributions(terms, total - terms.sum(2), total, seen)
