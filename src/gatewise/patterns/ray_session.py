"""A Ray to work on: the cluster at an address, the one this process uses, or one of our own."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatewise.errors import DataError, EngineError, missing
from gatewise.tables.words import one_line

ANSWER_SECONDS = 5.0  # to wait for an address; Ray itself would wait two minutes and then exit
# Nothing is sent anywhere, and of several errors one is said.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
RAYS_OWN = ("RAY_AUTH_MODE",)  # that Ray sets for the whole process when it starts
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and no settings
SETTINGS = 4  # the kind of the frame with which every gRPC server answers, byte 3 of it


@contextmanager
def session(address: str | None, processors: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected; a Ray that was started for this is shut down again.

    address: "host:port" of a cluster, "auto" for one on this machine; None: RAY_ADDRESS where that
    is set, else a new local Ray of so many processors (None: all) that ends with the work.
    """
    try:
        import ray
    except ImportError:
        raise missing("ray", "ray", "engine='ray'") from None
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if ray.is_initialized():
        _require_same(ray, address)
        yield ray
        return
    if wanted not in ("local", "auto"):
        require_answer(wanted)
    with _short_folder() as place, _as_it_was():
        _connect(ray, wanted, {"_temp_dir": place, "num_cpus": processors})
        try:
            yield ray
        finally:
            ray.shutdown()


def _require_same(ray: Any, address: str | None) -> None:
    """The user's own Ray serves, unless another one was asked for."""
    here = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", "local", here):
        raise EngineError(
            f"this process is connected to the Ray at {here}, not to '{address}': leave address "
            "out, or call ray.shutdown() before"
        )


def _connect(ray: Any, address: str, own: dict[str, Any]) -> None:
    """own: settings of a Ray that is started."""
    local = own | {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (SystemExit, ConnectionError, RuntimeError, ValueError, OSError) as why:
        said = one_line(why) or type(why).__name__
        if local:
            raise EngineError(f"Ray could not be started here: {said}") from why
        raise EngineError(
            f"no Ray could be used at '{address}': {said}. It must be of this version of Ray and "
            "Python; one that asks for a token needs RAY_AUTH_MODE=token here, too"
        ) from why


def require_answer(address: str) -> None:
    """Refuse an address where nobody answers as a gRPC server does, within seconds."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise DataError(
            f"the address of a Ray cluster is 'host:port' (6379 is its usual port) or 'auto', got "
            f"'{address}'"
        )
    if os.environ.get("RAY_USE_TLS", "0") != "0":  # then it answers to a certificate only
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS) as line:
            line.settimeout(ANSWER_SECONDS)
            line.sendall(GREETING)
            answer = line.recv(9)
    except (OSError, OverflowError) as why:
        said = getattr(why, "strerror", None) or one_line(why)
        raise EngineError(
            f"nobody answers at '{address}' ({said}): is the cluster up ('ray status' on "
            "its head node), and its port open to this machine?"
        ) from None
    if len(answer) < 4 or answer[3] != SETTINGS:
        raise EngineError(f"what answers at '{address}' is no Ray: give the address of its head")


@contextmanager
def _short_folder() -> Iterator[str]:
    """A folder for Ray's logs and sockets, whose names have 107 bytes at most; gone afterwards."""
    place = Path("/tmp") if os.access("/tmp", os.W_OK) else None  # TMPDIR may be long
    with tempfile.TemporaryDirectory(prefix="gw-ray-", dir=place, ignore_cleanup_errors=True) as d:
        yield d


@contextmanager
def _as_it_was() -> Iterator[None]:
    """The environment, Ray's logger and the handler of SIGTERM put back when the work is done."""
    before = {name: os.environ.get(name) for name in (*QUIET, *RAYS_OWN)}
    level = logging.getLogger("ray").level
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    os.environ.update({name: said for name, said in QUIET.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
        logging.getLogger("ray").setLevel(level)
        if main:
            signal.signal(signal.SIGTERM, handler)
