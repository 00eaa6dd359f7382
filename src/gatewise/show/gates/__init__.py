"""The page and the files of `gatewise gates`, and its section of the report."""
