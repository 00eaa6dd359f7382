"""Which files a path stands for: no table is left out, and none taken twice, without a word."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from gatewise.errors import DataError, EmptyData
from gatewise.tables.words import counted, listed

SUFFIXES = (".arrow", ".csv", ".feather", ".ipc", ".parquet", ".pq")


@dataclass(frozen=True)
class File:
    """A file and why it cannot be read ("" if it may be); a folder that cannot be looked into."""

    path: Path
    trouble: str = ""


@dataclass(frozen=True)
class Listing:
    """files: in order of name; tops: the folders they lie in, links followed; passed: how many
    files of other kinds were passed over."""

    files: tuple[File, ...]
    tops: tuple[Path, ...] = ()
    passed: int = 0


def listing(path: Path) -> Listing:
    """The tables at a path: itself, or all below it; names that begin with . or _ are hidden."""
    try:
        folder, there = path.is_dir(), os.path.lexists(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"'{shown(path)}' cannot be looked at: {reason}") from None
    if not there:
        raise DataError(f"there is no file or folder '{shown(path)}'")
    if not folder and path.suffix.lower() not in SUFFIXES:
        raise DataError(f"'{shown(path)}' is none of {listed(SUFFIXES)}: convert it to Parquet")
    found = _below(path) if folder else Listing((File(path, _trouble(path)),))
    if not found.files:
        also = f", and {counted(found.passed, 'file')} there passed over" if found.passed else ""
        raise EmptyData(
            f"the folder '{shown(path)}' has no table: {listed(SUFFIXES)} are read{also}"
        )
    return found


def hidden(name: str) -> bool:
    """Of a file or folder that is passed over without being counted: .crc, _SUCCESS."""
    return name.startswith((".", "_"))


def shown(path: Path | str) -> str:
    """A path in a sentence: what cannot be printed, as line ends or bytes that are no text."""
    said = str(path)
    if said.isprintable():
        return said
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)


def _below(root: Path) -> Listing:
    """Folders first, then those that links lead to, each once, wherever links go in a circle."""
    files: list[File] = []
    refused: list[OSError] = []
    tops, seen, waiting, passed = [], set[str](), [root], 0
    while waiting:
        top = waiting.pop(0)
        if (real := os.path.realpath(top)) not in seen:
            tops.append(Path(real))
        for here, folders, names in os.walk(top, onerror=refused.append):
            if (real := os.path.realpath(here)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not hidden(name))
            paths = [Path(here, name) for name in folders]
            waiting += [path for path in paths if path.is_symlink()]
            paths = [Path(here, name) for name in names if not hidden(name)]
            tables = [path for path in paths if path.suffix.lower() in SUFFIXES]
            files += [File(path, _trouble(path)) for path in tables]
            passed += len(paths) - len(tables)
    files += [File(Path(e.filename), e.strerror or str(e)) for e in refused]
    return Listing(tuple(sorted(files, key=lambda f: f.path)), tuple(tops), passed)


def _trouble(path: Path) -> str:
    """Why no table can be read there, "" where it may be."""
    try:
        os.fspath(path).encode()
        regular = stat.S_ISREG(path.stat().st_mode)
    except UnicodeEncodeError:
        return "its name is no text (not UTF-8)"
    except FileNotFoundError:
        return "it is a link to nothing"
    except OSError as error:
        return error.strerror or str(error)
    return "" if regular else "it is no regular file"
