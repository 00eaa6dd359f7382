"""Circuits of small transformers: QK, OV, paths that sum to a logit, the strongest pairs."""
