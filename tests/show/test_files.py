"""A result is written whole or not at all, whatever interrupts it and wherever it goes."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatewise.__main__ import Interrupted
from gatewise.errors import OutputError
from gatewise.show.files import check_folder, whole_file, whole_folder
from gatewise.tables import drafts

OURS = frozenset({"a.txt", "b.txt"})


def _write(out: Path, text: str, name: str = "a.txt") -> None:
    with whole_folder(out, OURS) as draft:
        (draft / name).write_text(text)


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    _write(out, "first")
    _write(out, "second", "b.txt")
    assert _names(out) == ["b.txt"]
    assert _names(out.parent) == ["out"]


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [Interrupted(), OSError(errno.EIO, "lost"), KeyboardInterrupt()])
def test_interrupted_in_either_rename_the_old_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    out = tmp_path / "out"
    _write(out, "old")
    calls, rename = [0], Path.rename

    def stopped(path: Path, target: Any) -> Path:
        calls[0] += 1
        if calls[0] == failing:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        _write(out, "new")
    assert (out / "a.txt").read_text() == "old"
    assert _names(tmp_path) == ["out"]


def test_interrupted_after_the_second_rename_the_new_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    _write(out, "old")
    rename = Path.rename

    def late(path: Path, target: Any) -> Path:
        rename(path, target)
        if path.suffix == ".partial":
            raise Interrupted
        return path

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(Interrupted):
        _write(out, "new")
    assert (out / "a.txt").read_text() == "new"
    assert _names(tmp_path) == ["out"]


def test_old_results_that_cannot_be_put_back_are_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    _write(out, "old")
    calls, rename = [0], Path.rename

    def once(path: Path, target: Any) -> Path:
        calls[0] += 1
        if calls[0] > 1:
            raise OSError(errno.EIO, "lost")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(OutputError, match="rename it") as caught:
        _write(out, "new")
    (kept,) = tmp_path.iterdir()
    assert (kept / "a.txt").read_text() == "old"
    assert kept.name in str(caught.value)


def test_interrupted_while_writing_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), whole_folder(tmp_path / "out", OURS):
        raise Interrupted
    with pytest.raises(Interrupted), whole_file(tmp_path / "out.html"):
        raise Interrupted
    assert _names(tmp_path) == []


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path, dangling: bool) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real, target_is_directory=True)
    if not dangling:
        _write(real, "old")
    check_folder(link, OURS)
    _write(link, "new")
    assert link.is_symlink()
    assert (real / "a.txt").read_text() == "new"
    assert _names(tmp_path) == ["link", "real"]


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real.html", tmp_path / "link.html"
    link.symlink_to(real)
    for text in ("first", "second"):
        with whole_file(link) as draft:
            draft.write_text(text)
        assert link.is_symlink()
        assert real.read_text() == text


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError):
        check_folder(tmp_path / "a", OURS)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.ENOSPC, "full"), "free some space"),
        (OSError(errno.EDQUOT, "full"), "free some space"),
        (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No"), "free some"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "free some space"),
        (PermissionError(errno.EACCES, "no"), "may write to"),
        (OSError(errno.EROFS, "no"), "may write to"),
        (OSError(errno.ENAMETOOLONG, "long"), "shorter name"),
        (NotADirectoryError(errno.ENOTDIR, "no"), "parents are folders"),
        (OSError("something else"), "choose another place"),
    ],
)
def test_the_advice_fits_the_cause(tmp_path: Path, error: Exception, advice: str) -> None:
    with pytest.raises(OutputError, match=advice) as caught, whole_folder(tmp_path / "out", OURS):
        raise error
    assert ("space" in str(caught.value)) == ("space" in advice or "some" in advice)
    assert _names(tmp_path) == []


def test_an_error_of_our_own_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "out", OURS):
        raise ZeroDivisionError


@pytest.mark.parametrize("out", ["", ".", "../here", "/", "a\0b"])
def test_the_current_folder_and_no_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for refuse in (check_folder, _write_into):
        with pytest.raises(OutputError):
            refuse(Path(out), OURS)
    assert _names(tmp_path) == ["here"]
    assert _names(here) == []


def _write_into(out: Path, ours: frozenset[str]) -> None:
    with whole_folder(out, ours):
        pass


def test_check_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b" / "out", OURS)
    assert _names(tmp_path) == []
    _write(tmp_path / "out", "old")
    check_folder(tmp_path / "out", OURS)
    assert _names(tmp_path) == ["out"]


def test_check_folder_refuses_what_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for name, told in (
        ("file", "is a file"),
        ("file/out", "parents are folders"),
        ("mine", "thesis.tex"),
        ("n" * 300, "shorter name"),
    ):
        with pytest.raises(OutputError, match=told):
            check_folder(tmp_path / name, OURS)
    assert _names(tmp_path) == ["file", "mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_check_folder_refuses_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may write to"):
        check_folder(tmp_path / "out", OURS)
    tmp_path.chmod(0o700)


def test_a_file_does_not_replace_a_folder_or_a_device(tmp_path: Path) -> None:
    for out in (tmp_path, Path("/dev/null")):
        with pytest.raises(OutputError, match="it is not a file; choose"), whole_file(out):
            pass


# ---------------------------------------------------------------- killed


@contextmanager
def another(work: Callable[[], Any]) -> Iterator[int]:
    """A process that is in the middle of `work`, which says so by `yield`."""
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        for _ in work():
            os.write(tell, b".")
            time.sleep(60)
        os._exit(0)
    os.read(told, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _in_the_middle(out: Path) -> Callable[[], Iterator[None]]:
    def work() -> Iterator[None]:
        with whole_folder(out, OURS) as draft, whole_file(out.with_name("f")) as file:
            (draft / "a.txt").write_text("half")
            file.write_text("half")
            yield

    return work


def test_what_killed_processes_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with another(_in_the_middle(out)):
        pass
    left = _names(tmp_path)
    assert len(left) == 2 and all(name.endswith(".partial") for name in left)
    _write(out, "new")  # a moment later: who made them may not have locked them yet
    assert _names(tmp_path) == [*left, "out"]
    monkeypatch.setattr(drafts, "YOUNG", -1.0)
    _write(tmp_path / "elsewhere", "new")
    assert _names(tmp_path) == [*left, "elsewhere", "out"]  # not its place
    _write(out, "newer")
    with whole_file(tmp_path / "f") as draft:
        draft.write_text("new")
    assert _names(tmp_path) == ["elsewhere", "f", "out"]


def test_what_a_living_process_holds_stays_and_so_does_what_is_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "YOUNG", -1.0)
    out = tmp_path / "out"
    here = drafts.beside(out, ".partial").name
    doubtful = [
        here.replace(here.split(".")[3], "0" * 8),  # of another running system, on a shared disk
        ".out.0123456789ab.partial",
        ".out.partial",
        f"{here}.txt",
    ]
    with another(_in_the_middle(out)):
        held = _names(tmp_path)
        for name in doubtful:
            (tmp_path / name).touch()
        _write(out, "new")
        assert set(_names(tmp_path)) == {*held, *doubtful, "out"}
    monkeypatch.setattr(drafts, "_locked", lambda path: None)  # a disk without locks
    _write(out, "newer")
    assert set(_names(tmp_path)) == {*held, *doubtful, "out"}


def test_killed_between_two_renames_the_old_result_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "YOUNG", -1.0)
    out = tmp_path / "out"
    _write(out, "old")

    def work() -> Iterator[None]:
        out.rename(drafts.beside(out, ".old"))
        yield

    with another(work):
        pass
    assert [name.endswith(".old") for name in _names(tmp_path)] == [True]
    check_folder(out, OURS)  # what a command does first
    assert (out / "a.txt").read_text() == "old" and _names(tmp_path) == ["out"]
    out.rename(drafts.beside(out, ".old"))
    out.mkdir()
    _write(out, "new")  # it has a successor
    assert (out / "a.txt").read_text() == "new" and _names(tmp_path) == ["out"]
