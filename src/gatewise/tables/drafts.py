"""Drafts: hidden files and folders beside a result until it is whole, which then becomes it.

A process that is killed (SIGKILL) cannot remove its own. Each draft is therefore locked by its
process (flock, which the system lets go with it), and the next one that writes to the same place
removes those that nobody holds. In doubt a draft stays: where there are no locks, or where another
running system made it, on a shared disk, whose locks may not be seen from here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NEW, OLD = ".partial", ".old"  # a draft; what a draft takes the place of
BOOT = Path("/proc/sys/kernel/random/boot_id")
YOUNG = 2.0  # seconds: it may have been made and not yet been locked


@contextmanager
def draft_of(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new draft beside the target, made by `make`, locked, and gone in the end."""
    sweep(target)
    draft = beside(target, NEW)  # a name first, so that an interruption leaks nothing
    with contextlib.ExitStack() as stack:
        try:
            make(draft)
            stack.enter_context(held(draft))
            yield draft
        finally:
            try:
                remove(draft)
            except BaseException:  # interrupted in the middle of that
                remove(draft)
                raise


def beside(path: Path, suffix: str) -> Path:
    """A hidden name in the same folder that nothing has yet, and that says where it was made."""
    return path.parent / f".{path.name[:40]}.{secrets.token_hex(6)}{_here()}{suffix}"


@functools.cache
def _here() -> str:
    """A mark of this running system; empty where it has none."""
    try:
        return "." + hashlib.sha256(BOOT.read_bytes()).hexdigest()[:8]
    except OSError:
        return ""


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Lock a file or folder, whatever it is renamed to; False where that cannot be done."""
    handle = _locked(path)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def _locked(path: Path) -> int | None:
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except (ImportError, OSError):  # not a POSIX system; gone
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another holds it, or this disk has no locks
        os.close(handle)
        return None
    return handle


def sweep(target: Path) -> None:
    """Remove drafts of processes that were killed; what they set aside goes back to its place."""
    if not _here():
        return
    mark = rf"\.{re.escape(target.name[:40])}\.[0-9a-f]{{12}}{re.escape(_here())}"
    kinds = f"({re.escape(NEW)}|{re.escape(OLD)})"
    with contextlib.suppress(OSError):
        for path in list(target.parent.iterdir()):
            found = re.fullmatch(mark + kinds, path.name)
            if found and time.time() - path.lstat().st_ctime > YOUNG:
                _let_go(path, target, found[1])


def _let_go(path: Path, target: Path, kind: str) -> None:
    with held(path) as ours:
        if not ours:
            return
        if kind == OLD and not target.exists():
            path.rename(target)  # killed between two renames: the old result is the result
        else:
            remove(path)


def remove(path: Path) -> None:
    """A file, or a folder with all in it; nothing where it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
