"""Words of bits and hashes for the compiled kernels: popcount, lowest bit, mixing of keys."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gatewise.numeric import kernel


def _popcount(context: Any, word: Any) -> Any:
    """How many bits of a uint64 are set: one instruction."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), emit


def _lowest(context: Any, word: Any) -> Any:
    """The place of the lowest set bit of a uint64 that is not 0."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), emit


popcount: Any = intrinsic(_popcount)
lowest: Any = intrinsic(_lowest)


@kernel
def mixed(x: Any) -> Any:
    """A permutation of uint64 whose every output bit hangs on every input bit (splitmix64)."""
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def paired(a: Any, b: Any) -> Any:
    """A key for the unordered pair {a, b}."""
    low, high = (a, b) if a < b else (b, a)
    return mixed(mixed(low) ^ (high * np.uint64(0xD6E8FEB86659FD93) + np.uint64(1)))
