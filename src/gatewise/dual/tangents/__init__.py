"""Empirical tangent kernels, and how much of one comes from the values and from the gates."""
