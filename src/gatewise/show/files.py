"""Folders that appear whole or not at all: a hidden folder first, then a rename."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatewise.errors import OutputError
from gatewise.tables.drafts import OLD, beside, draft_of, held, remove
from gatewise.tables.writing import flush, sentences, target_of, umask, whole_file

__all__ = ["check_folder", "whole_file", "whole_folder"]


def check_folder(out: Path, ours: frozenset[str]) -> None:
    """Refuse, before any work is done, a folder that `whole_folder` could not write.

    Nothing is left behind, not even parents of `out` that are yet to be made.
    """
    with sentences(out):
        target = target_of(out)
        _refuse_foreign(target, ours)
        parent = next(p for p in target.parents if p.exists())
        with draft_of(parent / target.name, Path.mkdir):
            pass


@contextmanager
def whole_folder(out: Path, ours: frozenset[str]) -> Iterator[Path]:
    """A folder to write into that becomes `out` only if nothing was raised on the way.

    An `out` that exists is replaced if it holds nothing but files named in `ours`; where it is a
    link, what it points to is replaced, and the link stays.
    """
    with sentences(out):
        target = target_of(out)
        _refuse_foreign(target, ours)
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(target, lambda path: path.mkdir(0o700)) as draft:
            yield draft
            for path in draft.iterdir():
                path.chmod(0o666 & ~umask())  # safetensors writes for the owner alone
                flush(path)
            _swap(draft, target)


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
    draft.chmod(0o777 & ~umask())
    if not out.exists():
        draft.rename(out)
        return
    old = beside(out, OLD)
    with held(out):
        try:
            out.rename(old)
            draft.rename(out)
        finally:
            if not out.exists():
                _restore(old, out)
            remove(old)


def _restore(old: Path, out: Path) -> None:
    try:
        old.rename(out)
    except OSError as error:
        raise OutputError(
            f"could not write '{out}', nor put back what was there: it is now '{old}', untouched; "
            f"rename it ({error.strerror})"
        ) from error
