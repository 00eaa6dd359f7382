"""Writing one file that appears whole or not at all: a hidden file first, then a rename."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatewise.errors import GatewiseError, OutputError
from gatewise.tables.drafts import draft_of

CODES = re.compile(r"\[?(?:errno|os error) (\d+)", re.IGNORECASE)  # of pyarrow, of safetensors
ADVICE = {
    "free some space or choose another place": ("ENOSPC", "EDQUOT", "EFBIG"),
    "choose a place you may write to": ("EACCES", "EPERM", "EROFS"),
    "choose a shorter name": ("ENAMETOOLONG",),
    "choose a name whose parents are folders": ("ENOTDIR", "EISDIR", "EEXIST", "ELOOP"),
}
ADVISED = {
    getattr(errno, name): text
    for text, names in ADVICE.items()
    for name in names
    if hasattr(errno, name)
}


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A path to write to that becomes `out` only if nothing was raised on the way."""
    with sentences(out):
        target = target_of(out)
        if target.exists() and not target.is_file():
            raise OutputError(f"could not write '{out}': it is not a file; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(target, lambda path: path.touch(0o600, exist_ok=False)) as draft:
            yield draft
            flush(draft)
            draft.chmod(0o666 & ~umask())
            draft.replace(target)


@contextmanager
def sentences(out: Path) -> Iterator[None]:
    """A failure of the file system on the way, said as what it means for the user."""
    try:
        yield
    except GatewiseError:
        raise
    except Exception as error:
        code = _code(error)
        if code is None and not isinstance(error, OSError):
            raise
        reason = os.strerror(code) if code else str(error)
        advice = ADVISED.get(code or 0, "choose another place")
        raise OutputError(
            f"could not write '{out}': {reason}. Nothing was left half-written; {advice}, "
            "and run again"
        ) from error


def _code(error: Exception) -> int | None:
    """The errno, which some libraries give only in their text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = CODES.search(str(error))
    return int(found[1]) if found else None


def target_of(out: Path) -> Path:
    """Where `out` leads, links followed, whether or not it is there yet."""
    try:
        target = out.resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise OutputError(f"{str(out)!r} is no place to write to: {error}") from error
    if not target.name or target == Path.cwd():
        raise OutputError(
            f"'{out}' is {'the folder you are in' if target.name else 'the root of all folders'}, "
            "which cannot be replaced as a whole: name a folder inside it"
        )
    return target


def flush(path: Path) -> None:
    """Wait until what was written is on the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def umask() -> int:
    """The bits that new files go without, which can only be read by setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
