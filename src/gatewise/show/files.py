"""Writing that leaves a whole result or nothing: a hidden folder or file first, then a rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatewise.errors import OutputError


@contextmanager
def whole_folder(out: Path, ours: frozenset[str]) -> Iterator[Path]:
    """A folder to write into that becomes `out` only if nothing was raised on the way.

    An `out` that exists is replaced if it holds nothing but files named in `ours`.
    """
    _refuse_foreign(out, ours)
    with _sentences(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        try:
            yield draft
            for path in draft.iterdir():
                path.chmod(0o666 & ~_umask())  # safetensors writes for the owner alone
                _flush(path)
            _swap(draft, out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A path to write to that becomes `out` only if nothing was raised on the way."""
    with _sentences(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)
        os.close(handle)
        draft = Path(name)
        try:
            yield draft
            _flush(draft)
            draft.chmod(0o666 & ~_umask())
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _sentences(out: Path) -> Iterator[None]:
    """An OSError on the way, said as what it means for the user."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"could not write '{out}': {reason}. Nothing was left half-written; "
            "free some space or choose another place, and run again"
        ) from error


def _refuse_foreign(out: Path, ours: frozenset[str]) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"'{out}' is a file, not a folder: choose another --out")
    foreign = sorted({p.name for p in out.iterdir()} - ours)
    if foreign:
        raise OutputError(
            f"'{out}' holds '{foreign[0]}', which is not a result of gatewise: nothing was "
            "written. Choose an empty folder or a new name"
        )


def _swap(draft: Path, out: Path) -> None:
    """Rename draft to out; what was there before is kept until the new folder is in place."""
    draft.chmod(0o777 & ~_umask())
    if not out.exists():
        draft.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    out.rename(old / out.name)
    try:
        draft.rename(out)
    except OSError:
        (old / out.name).rename(out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
