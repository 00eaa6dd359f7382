"""What a user gives the façade: a model, a Network or an Explanation; and rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatewise.explain.compute import require_finite
from gatewise.explain.explanation import Explanation
from gatewise.explain.inputs import inputs_of
from gatewise.given.rows import rows_of
from gatewise.ir.network import Network
from gatewise.read import read

Model = Any


def as_network(model: Model) -> Network:
    """The model itself when it is a Network, else what `read` makes of it."""
    return model if isinstance(model, Network) else read(model)


def inputs(model: Model, X: Any, *, fed: bool = False) -> tuple[Network, torch.Tensor]:
    """The Network, and X as its rows, finite in its type.

    fed: they are taken to the network's device a batch at a time, and wait on the host.
    """
    network = as_network(model)
    if isinstance(X, torch.Tensor) and X.device.type != "cpu":
        return network, rows_of(network, X)  # what is on a device goes through no table
    place = torch.device("cpu") if fed else network.device
    x = network.rows(inputs_of(network, X).values, place)
    require_finite(np.arange(len(x)), x)  # 1e300 does not fit a float32 network
    return network, x


def network_of(model: Model | Explanation) -> Network:
    """The Network of a model or of an Explanation."""
    return model.network if isinstance(model, Explanation) else as_network(model)


def source_of(model: Model | Explanation) -> Explanation | Network:
    """An Explanation as it is; the Network of anything else."""
    return model if isinstance(model, Explanation) else as_network(model)
