"""What a user gives the façade: a model, a Network or an Explanation; and rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatewise.explain.compute import require_finite
from gatewise.explain.explanation import Explanation
from gatewise.explain.inputs import inputs_of
from gatewise.ir.network import Network
from gatewise.read import read

Model = Any


def as_network(model: Model) -> Network:
    """The model itself when it is a Network, else what `read` makes of it."""
    return model if isinstance(model, Network) else read(model)


def inputs(model: Model, X: Any) -> tuple[Network, torch.Tensor]:
    """The Network, and X as its rows, finite in its type."""
    network = as_network(model)
    x = network.rows(inputs_of(network, X).values)
    require_finite(np.arange(len(x)), x.cpu())  # 1e300 does not fit a float32 network
    return network, x


def network_of(model: Model | Explanation) -> Network:
    """The Network of a model or of an Explanation."""
    return model.network if isinstance(model, Explanation) else as_network(model)


def source_of(model: Model | Explanation) -> Explanation | Network:
    """An Explanation as it is; the Network of anything else."""
    return model if isinstance(model, Explanation) else as_network(model)
