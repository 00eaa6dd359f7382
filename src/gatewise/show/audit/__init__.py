"""The page and the files of `gatewise audit`."""
