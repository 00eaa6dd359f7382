"""The folder of a streamed census: one process at a time, one job, runs that survive a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from gatewise.errors import DataError, GatewiseError, OutputError
from gatewise.patterns.streaming import runs
from gatewise.patterns.streaming.listing import hidden, shown
from gatewise.patterns.streaming.reading import Place
from gatewise.tables.words import listed, one_line
from gatewise.tables.writing import sentences, whole_file

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

Job = dict[str, Any]
LOCK, UNFINISHED = ".lock", ".unfinished"
TRIES = 100  # to lock a folder that others give back at the same time
META, PATTERNS, ROWS = "meta.json", "patterns.parquet", "rows.parquet"
OURS = frozenset({LOCK, UNFINISHED, META, PATTERNS, ROWS})


def place_of(out: Any) -> Path:
    """`out` as a path that can be written to."""
    if not isinstance(out, str | os.PathLike):
        raise OutputError(f"out must be the path of a folder, got a {type(out).__name__}")
    path = Path(out)
    try:
        str(path).encode()  # pyarrow takes no other names
        path.resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise OutputError(f"'{shown(path)}' is no place to write to: {one_line(error)}") from None
    return path


@contextmanager
def only_one(out: Path, ours: frozenset[str] = OURS, read: Sequence[Path] = ()) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go when the process dies.

    ours: what may be in the folder; read: folders whose files are read, and `out` is not in them.
    A folder in which nothing was kept is given back as it was found.
    """
    if fcntl is None:
        raise OutputError(
            f"'{out}' cannot be guarded against a second process: file locks (flock) are needed; "
            "run the census without out="
        )
    made: list[Path] = []
    handle = -1
    try:
        with sentences(out):
            _require_apart(out, read)
            made += _missing(out)
            handle = _locked(out, ours)
        yield
    finally:
        with suppress(OSError):  # removed by someone else, or no longer empty
            _give_back(out, handle, made)
        if handle >= 0:
            os.close(handle)


def _require_apart(out: Path, read: Sequence[Path]) -> None:
    """What lies among the files that are read would be read as a table the next time."""
    real = out.resolve()
    for top in read:
        inside = real.relative_to(top).parts if real.is_relative_to(top) else ()
        if inside and not any(hidden(name) for name in inside):
            raise OutputError(
                f"'{out}' lies inside the folder that is read, '{shown(top)}': choose a folder "
                "beside it, or one whose name begins with _, which is passed over"
            )


def _missing(out: Path) -> list[Path]:
    """The folder and those above it that are yet to be made, the innermost first."""
    return list(takewhile(lambda p: not os.path.lexists(p), (out, *out.parents)))


def _locked(out: Path, ours: frozenset[str]) -> int:
    """The lock of the file that is at its path, even where another process has just removed it."""
    for left in reversed(range(TRIES)):
        try:
            out.mkdir(parents=True, exist_ok=True)
            _require_ours(out, ours)
            handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # given back between two of these lines
            if not left:
                raise
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, out / LOCK):
                return handle
        except BlockingIOError:
            os.close(handle)
            break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise OutputError(
        f"another process is writing to '{out}': wait for it, or choose another folder"
    )


def _is_at(handle: int, path: Path) -> bool:
    """Is the open file the one at that path?"""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _give_back(out: Path, handle: int, made: list[Path]) -> None:
    """Remove the lock, while it is held, and the folders that were made, where nothing else is.

    A process that has opened the lock meanwhile finds that it is no longer at its path.
    """
    if handle >= 0 and {p.name for p in out.iterdir()} == {LOCK} and _is_at(handle, out / LOCK):
        (out / LOCK).unlink()
    for folder in made:
        folder.rmdir()


def _require_ours(out: Path, ours: frozenset[str]) -> None:
    found = sorted(p.name for p in out.iterdir() if p.name not in ours and not _draft(p.name))
    if found:
        raise OutputError(
            f"'{out}' holds other files ({listed(found)}): choose an empty or a new folder"
        )


def _draft(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")


def finished(out: Path, job: Job, what: str = "census") -> bool:
    """Is the census of this job there? One of another job is refused."""
    if not (out / META).is_file():
        return False
    with known(out, what):
        old = json.loads((out / META).read_text())["job"]
        require_same(out, old, job, what)
    discard(out)
    return True


def opened(out: Path, job: Job, what: str = "census") -> Path:
    """The folder of unfinished work of this job, made or found again."""
    work = out / UNFINISHED
    with sentences(out):
        work.mkdir(exist_ok=True)
        for folder in (out, work):
            for path in folder.iterdir():
                if _draft(path.name):  # of a process that was killed as it wrote
                    path.unlink()
    if (work / "job.json").is_file():
        with known(out, what):
            require_same(out, json.loads((work / "job.json").read_text()), job, what)
    else:
        write_json(work / "job.json", job)
    return work


@contextmanager
def known(out: Path, what: str = "census") -> Iterator[None]:
    """Where files of a folder of ours are read: what is wrong with them, in a sentence."""
    try:
        yield
    except GatewiseError:
        raise
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(
            f"'{out}' holds {_one(what)} that cannot be read ({one_line(error)}): delete it to "
            "start again"
        ) from None


def discard(out: Path) -> None:
    """Remove what only an unfinished census needs."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def require_same(out: Path, old: Job, new: Job, what: str = "census") -> None:
    """Refuse to go on with another model, other files or other settings, by name.

    What raised on nothing so far may go on skipping; what skipped may not go on raising.
    """
    new = json.loads(json.dumps(new))
    old = old | {k: new[k] for k, v in old.items() if v == "raise" and k in new}
    if old == new:
        return
    said = f"was begun by another version of the {what}"
    if old.get("version") == new.get("version"):
        said = _difference(old, new)
    raise DataError(
        f"'{out}' holds {_one(what)} that {said}: choose another folder, or delete this one to "
        "start again"
    )


def _one(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _difference(old: Job, new: Job) -> str:
    if old["model"] != new["model"]:
        return (
            f"is of another model: its fingerprint is {old['model'][:12]}, this one's "
            f"{new['model'][:12]}"
        )
    if old["files"] != new["files"]:
        before, now = dict(old["files"]), dict(new["files"])
        names = [n for n in {**before, **now} if before.get(n) != now.get(n)]
        return f"is of other files: {listed(names)} changed, came or went"
    settings = [k for k in new if old.get(k) != new[k]]
    return f"was begun with other settings ({listed(settings)})"


def write_json(path: Path, said: Any) -> None:
    """The facts as a file, whole or not at all."""
    with whole_file(path) as draft:
        draft.write_text(json.dumps(said, indent=1))


def run_path(work: Path, k: int) -> Path:
    """Of the run with that number."""
    return work / f"run-{k:06d}.parquet"


def ids_path(work: Path, k: int) -> Path:
    """Of the places of its rows."""
    return work / f"ids-{k:06d}.parquet"


def runs_of(work: Path) -> list[Job]:
    """What the runs so far say of themselves, in order."""
    found: list[Job] = []
    with known(work.parent):
        while run_path(work, len(found)).is_file():
            found.append(runs.facts_of(run_path(work, len(found))))
    return found


def place_after(done: list[Job]) -> tuple[Place, int]:
    """Where to read on, and how many rows came before."""
    return (Place(*done[-1]["next"]), done[-1]["stop"]) if done else (Place(), 0)
