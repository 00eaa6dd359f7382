"""Sphinx settings. Warnings are errors: see `make docs`."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Gatewise"
author = "The Gatewise authors"
copyright = "The Gatewise authors, Apache-2.0"
release = version = metadata.version("gatewise")

extensions = ["myst_parser", "sphinx.ext.autodoc", "optable", "plain_docstrings"]
exclude_patterns = ["_build", "_ext"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90

html_theme = "pydata_sphinx_theme"
html_title = f"Gatewise {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
