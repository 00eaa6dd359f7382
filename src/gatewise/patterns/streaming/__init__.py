"""The census of tables larger than memory: read once, spilled, merged, resumed.

pyarrow is imported when such a census is asked for, not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def is_stored(source: Any) -> bool:
    """A path or a pyarrow dataset: rows to be streamed."""
    return isinstance(source, str | Path) or type(source).__module__ == "pyarrow._dataset"
