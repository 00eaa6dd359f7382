"""The folder of a streamed census: one process at a time, one job, runs that survive a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatewise.errors import DataError, GatewiseError, OutputError
from gatewise.patterns.streaming import runs
from gatewise.patterns.streaming.reading import Place
from gatewise.tables.words import listed, one_line
from gatewise.tables.writing import sentences, whole_file

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

Job = dict[str, Any]
LOCK, UNFINISHED = ".lock", ".unfinished"
META, PATTERNS, ROWS = "meta.json", "patterns.parquet", "rows.parquet"
OURS = frozenset({LOCK, UNFINISHED, META, PATTERNS, ROWS})


@contextmanager
def only_one(out: Path, ours: frozenset[str] = OURS) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go when the process dies.

    ours: what may be in the folder.
    """
    if fcntl is None:
        raise OutputError(
            f"'{out}' cannot be guarded against a second process: file locks (flock) are needed; "
            "run the census without out="
        )
    with sentences(out):
        out.mkdir(parents=True, exist_ok=True)
        _require_ours(out, ours)
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another process is writing to '{out}': wait for it, or choose another folder"
            ) from None
        yield
    finally:
        os.close(handle)


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
