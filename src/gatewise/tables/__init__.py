"""From the table or array a user has to the float64 matrix a network takes, or a plain refusal."""

from gatewise.tables.files import load_table
from gatewise.tables.frames import Origin, is_table, open_table, origin_of
from gatewise.tables.matrix import Matrix, as_matrix, as_row
from gatewise.tables.words import counted, listed

__all__ = [
    "Matrix",
    "Origin",
    "as_matrix",
    "as_row",
    "counted",
    "is_table",
    "listed",
    "load_table",
    "open_table",
    "origin_of",
]
