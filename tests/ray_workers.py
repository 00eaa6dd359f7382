"""Workers of a Ray of our own, and a SIGKILL to one that is at work."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def busy() -> list[int]:
    """Our processes that count a piece now: Ray's workers say it in their title."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            pid, title = int(path.parent.name), path.read_bytes()
            if title.startswith(b"ray::count_piece") and parent(parent(pid)) == os.getpid():
                found.append(pid)
        except OSError:  # it has ended
            continue
    return found


def killed() -> bool:
    """SIGKILL to a worker that is at work: it is stopped first, so that it still is."""
    for pid in busy():
        os.kill(pid, signal.SIGSTOP)
        at_work = pid in busy()
        os.kill(pid, signal.SIGKILL if at_work else signal.SIGCONT)
        if at_work:
            while Path(f"/proc/{pid}").exists() and pid in busy():
                time.sleep(0.01)
            return True
    return False
