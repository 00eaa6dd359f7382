"""The machine that figures are of: processor, cores, libraries, rates, date and load."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import copying, gemm, spent

PACKAGES = ("gatewise", "torch", "numpy", "numba", "pyarrow")


def machine() -> dict[str, object]:
    """What a reader needs to judge the figures; it takes about a second."""
    torch.set_num_threads(1)
    now = datetime.datetime.now(datetime.UTC)
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_GB": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "blas": blas(),
        "versions": {"Python": platform.python_version()} | versions(),
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "load_before": os.getloadavg()[0],
        "gflops_float64": rate(gemm(1e9, 512), 1.0),
        "gflops_float32": rate(gemm(1e9, 512, torch.float32), 1.0),
        "copy_GB_s": rate(copying(1e9), 1.0),
    }


def processor() -> str:
    """The model's name; with family, model and vector instructions, as virtual ones hide theirs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    pairs = (map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    known = dict(reversed([tuple(p) for p in pairs]))
    flags = known.get("flags", "").split()
    wide = [f for f in ("avx2", "avx512f", "avx512_vnni") if f in flags]
    kind = f"family {known.get('cpu family')}, model {known.get('model')}"
    return f"{known.get('model name', platform.processor())} ({', '.join([kind, *wide])})"


def blas() -> dict[str, str]:
    """Which library multiplies matrices for torch and for numpy."""
    torch_says = re.search(r"oneAPI Math Kernel Library Version ([\d.]+)", torch.__config__.show())
    numpy_has = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "torch": f"MKL {torch_says[1]}" if torch_says else "as built",
        "numpy": f"{numpy_has['name']} {numpy_has['version']}",
    }


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def rate(way, work: float) -> float:
    """Units of work a CPU second, one thread, the best of five."""
    way.run()
    return work / min(spent(way.run)[0] * way.scale for _ in range(5))
