"""Affine layers multiplied together and constant units taken out: a smaller network."""
