"""Writing that leaves a whole result or nothing: a hidden folder or file first, then a rename."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatewise.errors import GatewiseError, OutputError

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


def check_folder(out: Path, ours: frozenset[str]) -> None:
    """Refuse, before any work is done, a folder that `whole_folder` could not write.

    Nothing is left behind, not even parents of `out` that are yet to be made.
    """
    with _sentences(out):
        target = _target(out)
        _refuse_foreign(target, ours)
        parent = next(p for p in target.parents if p.exists())
        probe = _beside(parent / target.name, ".partial")
        try:
            probe.mkdir()
        finally:
            shutil.rmtree(probe, ignore_errors=True)


@contextmanager
def whole_folder(out: Path, ours: frozenset[str]) -> Iterator[Path]:
    """A folder to write into that becomes `out` only if nothing was raised on the way.

    An `out` that exists is replaced if it holds nothing but files named in `ours`; where it is a
    link, what it points to is replaced, and the link stays.
    """
    with _sentences(out):
        target = _target(out)
        _refuse_foreign(target, ours)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _beside(target, ".partial")  # a name, so that an interruption leaks nothing
        try:
            draft.mkdir(0o700)
            yield draft
            for path in draft.iterdir():
                path.chmod(0o666 & ~_umask())  # safetensors writes for the owner alone
                _flush(path)
            _swap(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A path to write to that becomes `out` only if nothing was raised on the way."""
    with _sentences(out):
        target = _target(out)
        if target.exists() and not target.is_file():
            raise OutputError(f"could not write '{out}': it is not a file; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _beside(target, ".partial")
        try:
            draft.touch(0o600, exist_ok=False)
            yield draft
            _flush(draft)
            draft.chmod(0o666 & ~_umask())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _sentences(out: Path) -> Iterator[None]:
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


def _target(out: Path) -> Path:
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


def _beside(path: Path, suffix: str) -> Path:
    """A hidden name in the same folder that nothing has yet."""
    return path.parent / f".{path.name[:40]}.{secrets.token_hex(6)}{suffix}"


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
    """Rename draft to out; what was there before is kept until the new folder is in place.

    Whatever interrupts this, a signal too, `out` is the old folder or the new one, whole.
    """
    draft.chmod(0o777 & ~_umask())
    if not out.exists():
        draft.rename(out)
        return
    old = _beside(out, ".old")
    try:
        out.rename(old)
        draft.rename(out)
    finally:
        if not out.exists():
            _restore(old, out)
        shutil.rmtree(old, ignore_errors=True)


def _restore(old: Path, out: Path) -> None:
    try:
        old.rename(out)
    except OSError as error:
        raise OutputError(
            f"could not write '{out}', nor put back what was there: it is now '{old}', untouched; "
            f"rename it ({error.strerror})"
        ) from error


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
