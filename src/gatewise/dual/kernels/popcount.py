"""Counts of gates that are on in both of two rows, multiplied into a tile of a kernel: Numba.

    tile[i, j] <- (tile[i, j] + b(i) b'(j)) * o_l(i, j) * c(i) c'(j)        for each layer l

o_l(i, j) is the number of units of layer l that are on at row i and at row j. Two ways to count,
both exact; which is compiled in is `gram`'s choice:

- `by_table`: half-bytes. For one half-byte a of row i, the table n -> popcount(a & n) has 16
  entries: one `vpshufb` looks up 32 columns, one byte addition counts them. 2 instructions for
  128 pairs of gates, no AND, no sum across lanes. (The quick scan of product quantisation: André,
  Kermarrec, Le Scouarnec 2015, here with popcount tables.) Needs AVX2.
- `by_word`: 64-bit words, the innermost loop over columns, which LLVM turns into vectors on any
  machine (`vpopcntq`, `vpshufb`, `cnt`).

Columns come in groups of WIDE, transposed, so that the innermost loop runs along memory.
Imported when its work is asked for, never by `import gatewise`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gatewise.numeric import compiled, kernel

LANES = 32  # bytes of a vector register
VECTORS = 4  # registers of columns a lookup step goes over
WIDE = LANES * VECTORS  # columns of a group
PAIR = 2  # rows counted together: they share what is loaded of the columns
STEPS = 63  # half-bytes that a byte can count: 63 * 4 <= 255
BLOCK = 16  # columns mirrored together: one cache line of float32

BYTE, LONG = ir.IntType(8), ir.IntType(64)
HALF, VECTOR = ir.VectorType(BYTE, 16), ir.VectorType(BYTE, LANES)
BOTH = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [*range(16), *range(16)])


def _load(b: Any, address: Any, kind: Any) -> Any:
    return b.load(b.inttoptr(address, kind.as_pointer()), align=1)


def _step(b: Any, k: Any, sums: list[Any], rows: Any, stride: Any, table: Any, cols: Any) -> Any:
    """The sums after half-byte k of PAIR rows was looked up at WIDE columns."""
    shape = ir.FunctionType(VECTOR, [VECTOR, VECTOR])
    name = "llvm.x86.avx2.pshuf.b"
    shuffle = b.module.globals.get(name) or ir.Function(b.module, shape, name)
    start = b.add(cols, b.mul(k, LONG(WIDE)))
    data = [_load(b, b.add(start, LONG(LANES * v)), VECTOR) for v in range(VECTORS)]
    after = []
    for r in range(PAIR):
        here = b.add(b.add(rows, b.mul(stride, LONG(r))), k)
        entry = _load(b, b.add(table, b.zext(_load(b, here, BYTE), LONG)), HALF)
        entry = b.shuffle_vector(entry, ir.Constant(HALF, ir.Undefined), BOTH)
        for v in range(VECTORS):
            after.append(b.add(sums[r * VECTORS + v], b.call(shuffle, [entry, data[v]])))
    return after


def _emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
    """The loop of `lookup` over its half-bytes, the sums held in registers."""
    rows, stride, table, cols, steps, out = args
    before, loop = b.block, b.append_basic_block("lookup")
    done = b.append_basic_block("looked_up")
    b.branch(loop)
    b.position_at_end(loop)
    k = b.phi(LONG)
    sums = [b.phi(VECTOR) for _ in range(PAIR * VECTORS)]
    after = [b.add(k, LONG(1)), *_step(b, k, sums, rows, stride, table, cols)]
    for held, new in zip([k, *sums], after, strict=True):
        held.add_incoming(ir.Constant(held.type, None), before)
        held.add_incoming(new, loop)
    b.cbranch(b.icmp_unsigned("<", after[0], steps), loop, done)
    b.position_at_end(done)
    for n, value in enumerate(after[1:]):
        b.store(value, b.inttoptr(b.add(out, LONG(LANES * n)), VECTOR.as_pointer()), align=1)
    return context.get_dummy_value()


def _lookup(
    context: Any, rows: Any, stride: Any, table: Any, cols: Any, steps: Any, out: Any
) -> Any:
    """out[r, j] = sum over `steps` half-bytes k of table[rows[r, k] + cols[k, j]], in bytes.

    Addresses and counts as uint64: rows (PAIR, stride) half-bytes times 16, stride, table (16, 16),
    cols (steps, WIDE) half-bytes, steps in 1 .. STEPS, out (PAIR, WIDE). All uint8.
    """
    return types.void(*[types.uint64] * 6), _emit


def _popcount(context: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""
    return types.uint64(types.uint64), lambda context, b, signature, args: b.ctpop(args[0])


lookup: Any = intrinsic(_lookup)
popcount: Any = intrinsic(_popcount)


@kernel
def _address(array: Any, element: Any) -> Any:
    """The address of an element (counted flat) of an array of bytes."""
    return np.uint64(array.ctypes.data) + np.uint64(element)


@kernel
def _scale(tile: Any, counts: Any, b: Any, c: Any, b2: Any, c2: Any) -> None:
    """tile[j] <- (tile[j] + b b2[j]) * counts[j] * (c c2[j])."""
    for j in range(len(tile)):
        tile[j] = (tile[j] + b * b2[j]) * counts[j] * (c * c2[j])


@kernel
def _by_table(
    rows: Any, i: Any, cols: Any, g: Any, k: Any, end: Any, table: Any, sums: Any, counts: Any
) -> None:
    """counts (PAIR, WIDE) of rows i and i + 1 against group g, over half-bytes k .. end - 1."""
    stride = rows.shape[1]
    parts = (end - k + STEPS - 1) // STEPS
    counts[:] = 0
    for part in range(parts, 0, -1):
        steps = (end - k + part - 1) // part
        lookup(
            _address(rows, i * stride + k),
            np.uint64(stride),
            _address(table, 0),
            _address(cols, (g * stride + k) * WIDE),
            np.uint64(steps),
            _address(sums, 0),
        )
        for r in range(PAIR):
            for j in range(WIDE):
                counts[r, j] += sums[r, j]
        k += steps


@kernel
def _by_word(rows: Any, i: Any, cols: Any, g: Any, k: Any, end: Any, sums: Any) -> None:
    """sums (PAIR, WIDE) of rows i and i + 1 against group g, over words k .. end - 1."""
    sums[:] = 0
    for r in range(PAIR):
        for w in range(k, end):
            word = rows[i + r, w]
            for j in range(WIDE):
                sums[r, j] += popcount(word & cols[g, w, j])


@compiled
def product_by_table(
    panel: Any, rows: Any, cols: Any, corner: Any, span: Any, starts: Any, f: Any, f2: Any
) -> None:
    """Every layer's step of panel[:, span[0] : span[1]], counted by table.

    panel (m, n): its entry (0, 0) is entry `corner` of the whole. `rows` (N + 1, S) and `cols`
    (G, S, WIDE), column j in group j // WIDE, are half-bytes, those of rows times 16; layer l is
    starts[l] : starts[l + 1] of S. f (2, L, N) and f2 (2, L, N'): b and c of rows and of columns.
    corner[1] and span[0] are multiples of WIDE.
    """
    row, column = corner
    table = np.empty((16, 16), np.uint8)
    for a in range(16):
        for n in range(16):
            table[a, n] = popcount(np.uint64(a & n))
    sums = np.empty((PAIR, WIDE), np.uint8)
    counts = np.empty((PAIR, WIDE), panel.dtype)
    for first in range(span[0], span[1], WIDE):
        last = min(first + WIDE, span[1])
        group, here = (column + first) // WIDE, slice(column + first, column + last)
        for layer in range(len(starts) - 1):
            b, c = f2[0, layer, here], f2[1, layer, here]
            for i in range(0, len(panel), PAIR):
                k, stop = starts[layer], starts[layer + 1]
                _by_table(rows, row + i, cols, group, k, stop, table, sums, counts)
                for r in range(i, min(i + PAIR, len(panel))):
                    b_i, c_i = f[0, layer, row + r], f[1, layer, row + r]
                    _scale(panel[r, first:last], counts[r - i], b_i, c_i, b, c)


@compiled
def product_by_word(
    panel: Any, rows: Any, cols: Any, corner: Any, span: Any, starts: Any, f: Any, f2: Any
) -> None:
    """`product_by_table` with words (uint64) for half-bytes, counted by popcount."""
    row, column = corner
    sums = np.empty((PAIR, WIDE), np.uint64)
    counts = np.empty((PAIR, WIDE), panel.dtype)
    for first in range(span[0], span[1], WIDE):
        last = min(first + WIDE, span[1])
        group, here = (column + first) // WIDE, slice(column + first, column + last)
        for layer in range(len(starts) - 1):
            b, c = f2[0, layer, here], f2[1, layer, here]
            for i in range(0, len(panel), PAIR):
                _by_word(rows, row + i, cols, group, starts[layer], starts[layer + 1], sums)
                for r in range(PAIR):
                    for j in range(WIDE):
                        counts[r, j] = np.int32(sums[r, j])  # narrow: converts in vectors
                for r in range(i, min(i + PAIR, len(panel))):
                    b_i, c_i = f[0, layer, row + r], f[1, layer, row + r]
                    _scale(panel[r, first:last], counts[r - i], b_i, c_i, b, c)


@kernel
def mirror(out: Any, start: Any, stop: Any) -> None:
    """out[j, i] = out[i, j] for i in start .. stop - 1 and j < i, in blocks that fit the cache."""
    for first in range(0, stop, BLOCK):
        for i in range(start, stop):
            for j in range(first, min(first + BLOCK, i)):
                out[j, i] = out[i, j]
