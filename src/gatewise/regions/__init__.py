"""Regions: the polyhedra on which a piecewise-affine network is one affine map."""
