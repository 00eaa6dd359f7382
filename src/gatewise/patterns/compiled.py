"""Loops over every unit of every row, compiled: codes with what is near a knot, hashes, buckets."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.errors import missing
from gatewise.numeric import inner, kernel

try:
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic
except ImportError:
    raise missing("numba", "stream", "streaming rows from files") from None

LANES = 8  # units a byte
SIGN_BITS = 0xFF  # of what `eight` says: above the knot; the bits from 8 on: near it


@intrinsic
def _eight(context: Any, z: Any, bias: Any, limits: Any, at: Any, j: Any, slope: Any) -> Any:
    """What eight units of a row say, in bits: u > 0, the first the highest; then |u| <= limit.

    u = z[at : at + 8] + bias[j : j + 8], and limit = limits[j : j + 8], in flat memory; NaN is
    near. u goes back into z, times slope where it is not above 0. Eight comparisons become bits in
    two instructions: from a loop over units LLVM makes eight shifts.
    """

    if any(array.layout != "C" for array in (z, bias, limits)):
        return None  # Numba then refuses the call

    def generate(context: Any, build: Any, signature: Any, args: Any) -> Any:
        number = context.get_data_type(signature.args[0].dtype)
        lanes = ir.VectorType(number, LANES)
        size = signature.args[0].dtype.bitwidth // 8

        def place(k: int, index: Any) -> Any:
            proxy: Any = cgutils.create_struct_proxy
            data = proxy(signature.args[k])(context, build, args[k]).data
            return build.bitcast(build.gep(data, [index]), lanes.as_pointer())

        def same(value: Any) -> Any:
            one = build.insert_element(
                ir.Constant(lanes, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return build.shuffle_vector(one, ir.Constant(lanes, ir.Undefined), zeros)

        at, j = args[3], args[4]
        units = build.fadd(
            build.load(place(0, at), align=size), build.load(place(1, j), align=size)
        )
        limit = build.load(place(2, j), align=size)
        zero = ir.Constant(lanes, [0.0] * LANES)
        above = build.fcmp_ordered(">", units, zero)
        below = build.fmul(units, same(args[5]))
        build.store(build.select(above, units, below), place(0, at), align=size)
        backwards = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(LANES))[::-1])
        above = build.shuffle_vector(above, ir.Constant(above.type, ir.Undefined), backwards)
        near = build.and_(
            build.fcmp_unordered("<=", units, limit),
            build.fcmp_unordered(">=", units, build.fsub(zero, limit)),
        )
        byte, word = ir.IntType(LANES), ir.IntType(32)
        low = build.zext(build.bitcast(above, byte), word)
        high = build.zext(build.bitcast(near, byte), word)
        return build.or_(low, build.shl(high, ir.Constant(word, LANES)))

    return types.uint32(z, bias, limits, types.intp, types.intp, z.dtype), generate


eight: Any = _eight  # for mypy, which sees a function of seven arguments


@kernel
def gated(z: Any, bias: Any, limits: Any, slope: Any, bits: Any, start: int, near: Any) -> None:
    """The value and the codes of a gate behind z (rows, units) without its bias: u = z + bias.

    Into z: u where u > 0, else slope u; into bits (rows, bytes), from byte `start` on: u > 0, eight
    units a byte. near (rows,) becomes true where any |u| <= limits (units,), or is NaN.
    """
    rows, units = z.shape
    whole = units // LANES
    for i in range(rows):
        seen = np.uint32(0)
        for j in range(whole):
            found = eight(z, bias, limits, i * units + LANES * j, LANES * j, slope)
            bits[i, start + j] = found & SIGN_BITS
            seen |= found
        close = seen > SIGN_BITS
        last = 0
        for k in range(LANES * whole, units):
            u = z[i, k] + bias[k]
            last |= int(u > 0) << (LANES * whole + LANES - 1 - k)
            close |= not (abs(u) > limits[k])
            z[i, k] = u if u > 0 else slope * u
        if units > LANES * whole:
            bits[i, start + whole] = last
        near[i] |= close


@inner
def mixed(z: Any) -> Any:
    """The finaliser of splitmix64: `hashing` says what it is."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def hashed(words: Any, salts: Any, out: Any) -> None:
    """Into out (rows,): the sum of the words (rows, k), each mixed with its own salt, mixed."""
    for i in range(len(words)):
        total = np.uint64(0)
        for j in range(words.shape[1]):
            total += mixed(words[i, j] ^ salts[j])
        out[i] = mixed(total)


@kernel
def gathered(words: Any, keys: Any, recent: Any, tags: Any, out: Any) -> int:
    """Rows as records of (row, times): a row whose pattern was met lately adds to its record.

    words (rows, k), keys (rows,) their hashes; recent, tags: tables of 2**b records, and their
    keys, by the last bits of the key, -1 empty; out: arrays (rows,) of each record's first row and
    its count. How many. A record that another pushed out of the table may be made once more.
    """
    rows, counts = out
    made, mask = 0, np.uint64(len(recent) - 1)
    for i in range(len(keys)):
        place = keys[i] & mask
        r = recent[place]
        same = tags[place] == keys[i] and r >= 0
        if same:
            for j in range(words.shape[1]):
                same &= words[rows[r], j] == words[i, j]
        if same:
            counts[r] += 1
        else:
            rows[made], counts[made] = i, 1
            recent[place], tags[place] = made, keys[i]
            made += 1
    return made


@kernel
def dealt(of: Any, which: Any, at: int, shift: Any, start: int, fills: Any, out: Any) -> int:
    """Records from number `at` on, each to the end of its bucket: how far it came.

    of: (words, keys, rows) where rows are numbered start + rows[i], or start + i where `rows` is
    empty; which: (i, times) of the records; a record's bucket is what `shift` leaves of its key.
    fills (buckets,): records in each; out: (words, counts, first) of buckets, by records. It ends
    before the first record whose bucket is full.
    """
    words, keys, rows = of
    places, times = which
    to_words, to_counts, to_first = out
    for record in range(at, len(places)):
        i = places[record]
        b = keys[i] >> shift
        end = fills[b]
        if end == to_counts.shape[1]:
            return record
        fills[b] += 1
        to_counts[b, end] = times[record]
        to_first[b, end] = start + (rows[i] if len(rows) else i)
        for j in range(words.shape[1]):
            to_words[b, end, j] = words[i, j]
    return len(places)


@kernel
def marked(keys: Any, mask: Any, out: Any) -> None:
    """Into out: the keys with their place in the bits of `mask`."""
    for i in range(len(keys)):
        out[i] = (keys[i] & ~mask) | np.uint64(i)


@kernel
def joined(marks: Any, mask: Any, keys: Any, records: Any, out: Any) -> int:
    """Records in the order of sorted `marks`, equal patterns as one: how many patterns, or -1.

    records, out: (words, counts, first), out in order of (key, words). -1: two patterns share a
    key, or the bits of `mask`, which the marks lack, would have told them in another order.
    """
    words, counts, first = records
    to_words, to_counts, to_first = out
    made, last = -1, np.uint64(0)
    for i in range(len(marks)):
        r = marks[i] & mask
        if made < 0 or keys[r] != last:
            if keys[r] < last:
                return -1
            made, last = made + 1, keys[r]
            to_counts[made], to_first[made] = counts[r], first[r]
            for j in range(words.shape[1]):
                to_words[made, j] = words[r, j]
            continue
        to_counts[made] += counts[r]
        to_first[made] = min(to_first[made], first[r])
        for j in range(words.shape[1]):
            if to_words[made, j] != words[r, j]:
                return -1
    return made + 1


@kernel
def singled(run: Any, out: Any, at: int) -> int:
    """The patterns of a run that were met once into `out` from `at` on: where the next goes.

    run, out: (words, counts, first).
    """
    words, counts, first = run
    to_words, to_counts, to_first = out
    for r in range(len(counts)):
        if counts[r] == 1:
            to_counts[at], to_first[at] = 1, first[r]
            for j in range(words.shape[1]):
                to_words[at, j] = words[r, j]
            at += 1
    return at
