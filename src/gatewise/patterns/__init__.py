"""Patterns of data: what every gate did at every row, counted, merged, certified."""
