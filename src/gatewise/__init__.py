"""Gatewise: a trained network is a linear map chosen by gates, and here is the map.

import gatewise as gw

net = gw.read(model)              # torch, scikit-learn, .onnx, .pt2, [(W, b), ...]
explanation = gw.explain(net, X)  # clusters of rows, an exact affine rule each
gw.affine(net, X).matrix()        # (rows, outputs, inputs)
"""

from gatewise.api import affine, census, explain, pattern, read, region, report, save
from gatewise.errors import GatewiseError, NotPiecewiseAffine
from gatewise.explain.explanation import Explanation
from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.census import Census
from gatewise.regions.halfspaces import Region

__version__ = "0.1.0"

__all__ = [
    "AffineMap",
    "Census",
    "Explanation",
    "GatewiseError",
    "Network",
    "NotPiecewiseAffine",
    "Pattern",
    "Region",
    "affine",
    "census",
    "explain",
    "pattern",
    "read",
    "region",
    "report",
    "save",
]
