"""The audit of tables larger than memory: sums over rows, a sample for what is no sum."""
