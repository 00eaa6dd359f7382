"""A dense layer and its gate on a tile of rows, in the processor's vectors.

A tile holds unit after unit, each for as many rows as a vector has numbers. Eight units at once, as
many as there are bits in a byte of codes, leave room for their sums in 16 registers; each weight is
read once for all rows. LLVM, left alone with the same loops, is twice as slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from gatewise.errors import missing
from gatewise.numeric import kernel

try:
    from llvmlite import binding, ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic
except ImportError:
    raise missing("numba", "stream", "streaming rows from files") from None

UNITS = 8  # a byte of codes
CLOSE, OUTSIDE = 1, 2  # what is said of a row
VECTOR = 64 if binding.get_host_cpu_features().get("avx512f") else 32  # bytes
MAY_FUSE = ("contract",)  # w x + z may be rounded once


class _Rows:
    """Builds code on vectors of one number for each row of a tile."""

    def __init__(self, context: Any, build: Any, arrays: Sequence[tuple[Any, Any]]) -> None:
        """arrays: the Numba types and values of those that are read or written."""
        kind = arrays[0][0].dtype
        self.build, self.number = build, context.get_data_type(kind)
        self.size = kind.bitwidth // 8
        self.rows = VECTOR // self.size
        self.kind = self.of(self.number)
        proxy: Any = cgutils.create_struct_proxy
        self.flat = [proxy(t)(context, build, value).data for t, value in arrays]

    def of(self, kind: Any) -> Any:
        """A vector of this kind of number."""
        return ir.VectorType(kind, self.rows)

    def same(self, value: Any) -> Any:
        """The number in every row."""
        nothing = ir.Constant(self.of(value.type), ir.Undefined)
        one = self.build.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
        zeros = self.all(ir.IntType(32), 0)
        return self.build.shuffle_vector(one, nothing, zeros)

    def all(self, kind: Any, value: float) -> Any:
        """A constant in every row."""
        return ir.Constant(self.of(kind), [value] * self.rows)

    def size_of(self, numbers: Any) -> Any:
        """|numbers|"""
        kind = "f64" if numbers.type.element == ir.DoubleType() else "f32"
        does = ir.FunctionType(numbers.type, [numbers.type])
        get = cast(Any, cgutils).get_or_insert_function
        return self.build.call(
            get(self.build.module, does, f"llvm.fabs.v{self.rows}{kind}"), [numbers]
        )

    def number_at(self, array: int, index: Any) -> Any:
        """array[index], in every row."""
        return self.same(self.build.load(self.build.gep(self.flat[array], [index])))

    def unit(self, array: int, index: Any) -> Any:
        """Where a unit of the tile lies."""
        at = self.build.gep(self.flat[array], [self.build.mul(index, _whole(self.rows))])
        return self.build.bitcast(at, self.kind.as_pointer())

    def say(self, array: int, row: Any, more: Any) -> None:
        """array[row + r] |= more[r], bytes."""
        begin = self.build.gep(self.flat[array], [row])
        place = self.build.bitcast(begin, more.type.as_pointer())
        self.build.store(self.build.or_(self.build.load(place, align=1), more), place, align=1)


def _whole(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


@intrinsic
def _taken(context: Any, x: Any, columns: Any, reach: Any, said: Any, row: Any) -> Any:
    """Rows from number `row` on into the tile x, rounded to its dtype.

    columns (inputs,): the address of each, float64 end to end; said[row + r] becomes `OUTSIDE` too
    where not |number| <= reach (inputs,) in every column.
    """
    arrays = (x, columns, reach, said)
    if any(array.layout != "C" for array in arrays):
        return None

    def generate(context: Any, build: Any, signature: Any, args: Any) -> Any:
        rows = _Rows(context, build, list(zip(signature.args[:4], args[:4], strict=True)))
        double, whole, tools = ir.DoubleType(), ir.IntType(64), cast(Any, cgutils)
        outside = tools.alloca_once_value(build, rows.all(whole, 0))
        count = build.extract_value(
            tools.create_struct_proxy(columns)(context, build, args[1]).shape, 0
        )
        with tools.for_range(build, count) as loop:
            address = build.load(build.gep(rows.flat[1], [loop.index]))
            begin = build.gep(build.inttoptr(address, double.as_pointer()), [args[4]])
            numbers = build.load(build.bitcast(begin, rows.of(double).as_pointer()), align=1)
            limit = rows.same(build.load(build.gep(rows.flat[2], [loop.index])))
            beyond = build.fcmp_unordered(">", rows.size_of(numbers), limit)
            build.store(build.or_(build.load(outside), build.sext(beyond, rows.of(whole))), outside)
            if rows.number != double:
                numbers = build.fptrunc(numbers, rows.kind)
            build.store(numbers, rows.unit(0, loop.index), align=rows.size)
        told = build.trunc(build.load(outside), rows.of(ir.IntType(8)))
        rows.say(3, args[4], build.and_(told, rows.all(ir.IntType(8), OUTSIDE)))
        return context.get_dummy_value()

    return types.void(*arrays, types.intp), generate


X, WEIGHTS, BIAS, LIMITS, Z, BITS, SAID = range(7)  # the arrays of `eight`


@intrinsic
def _eight(
    context: Any,
    x: Any,
    weights: Any,
    bias: Any,
    limits: Any,
    z: Any,
    bits: Any,
    said: Any,
    slope: Any,
    inputs: Any,
    start: Any,
    first: Any,
    unit: Any,
    row: Any,
    byte: Any,
    width: Any,
) -> Any:
    """Eight units u = W x + bias of a tile; into z u where u > 0, else slope u.

    x, z: tiles; weights[start + 8 k + i]: of input k to unit i; bias, limits: from `first` on; the
    units are number `unit` to `unit` + 7 of z. Bits of u > 0, the first the highest, go to
    bits[row + r, byte], in rows of `width` bytes; said[row + r] becomes `CLOSE` too where any
    |u| <= limit, or is NaN. Memory is flat.
    """
    arrays = (x, weights, bias, limits, z, bits, said)
    if any(array.layout != "C" for array in arrays):
        return None  # Numba then refuses the call

    def generate(context: Any, build: Any, signature: Any, args: Any) -> Any:
        rows = _Rows(context, build, list(zip(signature.args[:7], args[:7], strict=True)))
        slope, inputs, start, first, unit, row, byte, width = args[7:]
        sums = _sums(rows, inputs, start, first)
        code, close = _gate(rows, sums, slope, first, unit)
        bytes_ = rows.of(ir.IntType(8))
        code = build.trunc(code, bytes_)
        for r in range(rows.rows):
            at = build.add(build.mul(build.add(row, _whole(r)), width), byte)
            one = build.extract_element(code, ir.Constant(ir.IntType(32), r))
            build.store(one, build.gep(rows.flat[BITS], [at]))
        rows.say(SAID, row, build.zext(close, bytes_))
        return context.get_dummy_value()

    places = [types.intp] * 7
    return types.void(*arrays, x.dtype, *places), generate


def _sums(rows: _Rows, inputs: Any, start: Any, first: Any) -> list[Any]:
    """u of eight units, summed in the order of the inputs, the bias first."""
    build, place = rows.build, cast(Any, cgutils).alloca_once
    held = [place(build, rows.kind) for _ in range(UNITS)]
    for i, sum_ in enumerate(held):
        build.store(rows.number_at(BIAS, build.add(first, _whole(i))), sum_)
    with cast(Any, cgutils).for_range(build, inputs) as loop:
        value = build.load(rows.unit(X, loop.index), align=rows.size)
        begin = build.add(start, build.mul(loop.index, _whole(UNITS)))
        for i, sum_ in enumerate(held):
            weight = rows.number_at(WEIGHTS, build.add(begin, _whole(i)))
            term = build.fmul(weight, value, flags=MAY_FUSE)
            build.store(build.fadd(build.load(sum_), term, flags=MAY_FUSE), sum_)
    return [build.load(sum_) for sum_ in held]


def _gate(rows: _Rows, sums: list[Any], slope: Any, first: Any, unit: Any) -> tuple[Any, Any]:
    """Values into z; a byte of codes for each row, as a word, and whether a unit is near."""
    build, word = rows.build, ir.IntType(32)
    zero, below = rows.all(rows.number, 0.0), rows.same(slope)
    none, close = rows.all(word, 0), rows.all(ir.IntType(1), 0)
    code = none
    for i, u in enumerate(sums):
        above = build.fcmp_ordered(">", u, zero)
        bit = rows.all(word, 1 << (UNITS - 1 - i))
        code = build.or_(code, build.select(above, bit, none))
        limit = rows.number_at(LIMITS, build.add(first, _whole(i)))
        close = build.or_(close, build.fcmp_unordered("<=", rows.size_of(u), limit))
        value = build.select(above, u, build.fmul(u, below))
        build.store(value, rows.unit(Z, build.add(unit, _whole(i))), align=rows.size)
    return code, close


taken: Any = _taken
eight: Any = _eight  # for mypy, which sees a function of sixteen arguments

# Here, for Numba compiles a function anew only where the file that it stands in was changed.


@kernel
def looked(
    columns: Any, reach: Any, numbers: Any, plan: Any, tiles: Any, bits: Any, said: Any
) -> None:
    """Codes of rows, of a tile or more, through dense layers; which rows are not sure.

    columns, reach (inputs,): where each column begins, in float64, and the largest |x| that limits
    are good for; numbers: (weights, bias, limits, slopes) of all layers, end to end, as `eight`
    takes them; plan (layers, 5): inputs, bytes of codes, where weights start, and bias, and codes;
    tiles: two for values; bits (rows, bytes); said (rows,): `CLOSE`, `OUTSIDE`. The last tile
    begins early enough to be whole.
    """
    weights, bias, limits, slopes = numbers
    rows, width = bits.shape
    high = VECTOR // bias.itemsize
    for tile in range(0, rows, high):
        row = min(tile, rows - high)
        here, there = tiles
        taken(here, columns, reach, said, row)
        for layer in range(len(plan)):
            inputs, groups, start, first, byte = plan[layer]
            for g in range(groups):
                w, c = start + UNITS * inputs * g, first + UNITS * g
                arrays = (here, weights, bias, limits, there, bits, said)
                places = (slopes[layer], inputs, w, c, UNITS * g, row, byte + g, width)
                eight(*arrays, *places)
            here, there = there, here
