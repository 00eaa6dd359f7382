"""Gatewise: a trained network is a linear map chosen by gates, and here is the map.

import gatewise as gw

net = gw.read(model)              # torch, scikit-learn, .onnx, .pt2, [(W, b), ...]
explanation = gw.explain(net, X)  # clusters of rows, an exact affine rule each
gw.affine(net, X).matrix()        # (rows, outputs, inputs)
gw.regions.enumerate_regions(net, (low, high))  # every region of a box
gw.dual.gates_know(net, X, y)     # how much of what it learned is in its gates
gw.linear.fold(net, X)            # the same function on these rows, in a smaller network
gw.audit(net, X, y)               # does it beat the best linear model, and where
"""

from gatewise import bilinear as bilinear
from gatewise import dual as dual
from gatewise import errors as errors
from gatewise import linear as linear
from gatewise import models as models
from gatewise import regions as regions
from gatewise import write as write
from gatewise.api import (
    Explainer,
    affine,
    audit,
    census,
    cohorts,
    evaluate,
    explain,
    integrated_gradients,
    pattern,
    profile,
    read,
    reason_codes,
    recourse,
    region,
    report,
    save,
    trace,
)
from gatewise.errors import GatewiseError
from gatewise.explain.explanation import Explanation
from gatewise.ir.network import Network

__version__ = "0.1.0"

__all__ = [
    "Explainer",
    "Explanation",
    "GatewiseError",
    "Network",
    "affine",
    "audit",
    "census",
    "cohorts",
    "evaluate",
    "explain",
    "integrated_gradients",
    "pattern",
    "profile",
    "read",
    "reason_codes",
    "recourse",
    "region",
    "report",
    "save",
    "trace",
]
