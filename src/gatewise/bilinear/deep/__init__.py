"""Stacks of bilinear layers: polynomials of degree 2^L that are never multiplied out."""
