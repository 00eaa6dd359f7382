"""Explanations of tables larger than memory: sums that merge, rows written part by part."""
