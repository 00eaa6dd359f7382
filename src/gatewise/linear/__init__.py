"""Networks without gates, or with their gates decided: `gw.linear.collapsed(network)` and the rest.

A network of affine layers is one affine map; the rooms above freeze gates and collapse what is
left with the files here. Each name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.linear.affine_map import AffineMap
    from gatewise.linear.fits.classes import logistic, multinomial
    from gatewise.linear.fits.model import LinearModel
    from gatewise.linear.fits.moments import Moments
    from gatewise.linear.fits.squares import least_squares, ridge
    from gatewise.linear.folding.fold import FoldedNetwork, fold
    from gatewise.linear.grafting import Graft, graft
    from gatewise.linear.stretches import Collapsed, Stretch, collapsed

WHERE = {
    "AffineMap": "affine_map",
    "Collapsed": "stretches",
    "FoldedNetwork": "folding.fold",
    "Graft": "grafting",
    "LinearModel": "fits.model",
    "Moments": "fits.moments",
    "Stretch": "stretches",
    "collapsed": "stretches",
    "fold": "folding.fold",
    "graft": "grafting",
    "least_squares": "fits.squares",
    "logistic": "fits.classes",
    "multinomial": "fits.classes",
    "ridge": "fits.squares",
}

__all__ = [
    "AffineMap",
    "Collapsed",
    "FoldedNetwork",
    "Graft",
    "LinearModel",
    "Moments",
    "Stretch",
    "collapsed",
    "fold",
    "graft",
    "least_squares",
    "logistic",
    "multinomial",
    "ridge",
]

__getattr__, __dir__ = door(__name__, WHERE)
