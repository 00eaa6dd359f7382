"""Explanations people can act on: per row, per cluster, with the error printed."""
