"""torch.nn.Module -> Network, through torch.export on a copy; the user's module is never touched.

The copy is in eval mode and in float64. A row is read at batch size 1, and the Network is checked
against the copy on several rows together, so a module that mixes rows is refused, not misread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError, ReadingMismatch, UnsupportedLayer
from gatewise.ir.network import Network
from gatewise.read.check import check_reading, require_finite
from gatewise.read.head import set_aside_head
from gatewise.read.torch.copies import foreign_hooks, frozen_copy, unwrapped
from gatewise.read.torch.numbers import eps_is_of, float_type, with_eps
from gatewise.read.torch.program import (
    Program,
    exact,
    from_exported,
    in_place_is_plain,
    require_stateless,
    run_program,
    user_outputs,
)
from gatewise.read.torch.signature import leaf, output_keys, pick, require_rows, sample
from gatewise.read.torch.walk import UnknownOperator, build

SOURCE = "the torch module"


class _Float32Only(Exception):
    """The module fixes float32 itself, so it cannot be read from a float64 copy."""

    def __init__(self, why: str = "rounds to float32 itself") -> None:
        self.why = why


def read_torch(module: nn.Module, example: Any = None, output: int | str | None = None) -> Network:
    """f as the module computes it in eval mode; a final softmax or sigmoid is set aside.

    example: a row, or several, of what the module takes (rows first); without it the width is
    that of the first Linear. output: which one, where the module returns several.
    """
    module = unwrapped(module)
    notes = _mode_notes(module)
    try:
        network = _read(module, example, output, torch.float64)
    except _Float32Only as only:
        notes += (f"the module {only.why}, so it was read and checked in float32",)
        network = _read(module, example, output, torch.float32)
    return dataclasses.replace(network, notes=notes + network.notes)


def read_exported(exported: Any, output: int | str | None = None, source: str = "") -> Network:
    """The Network of a torch.export.ExportedProgram."""
    index = pick(list(range(len(user_outputs(exported)))), output)
    program = exact(_plain(exported, index))
    network = set_aside_head(_build(program, exported, index))
    return check_program(network, program, source or "the exported program")


def check_program(network: Network, program: Program, source: str) -> Network:
    """The network, checked against torch's own operators run in the (exact) program's order."""

    def run(x: Tensor) -> Any:
        rows = x.reshape(-1, *program.input_shape[1:])
        if program.batch is None:
            return run_program(program, rows)
        return torch.cat([run_program(program, part) for part in _groups(rows, program.batch)])[
            : len(rows)
        ]

    require_finite(network, masks=True)
    if program.batch not in {None, 1}:
        note = f"exported for exactly {program.batch} rows at a time; read for any number of them"
        network = dataclasses.replace(network, notes=(*network.notes, note))
    dtype = torch.float32 if program.lowers else torch.float64
    return check_reading(network, run, source=source, exact_dtype=dtype)


def _groups(rows: Tensor, size: int) -> Iterator[Tensor]:
    """The rows in groups of `size`, the last one filled up with copies of the last row."""
    for part in rows.split(size):
        yield torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])


# -- one attempt, in one float type --


def _read(module: nn.Module, example: Any, output: int | str | None, dtype: torch.dtype) -> Network:
    copy = frozen_copy(module, dtype)
    x = sample(copy, example, dtype)
    with torch.no_grad(), _quiet():
        x, result = _run_once(copy, x, given=example is not None)
        keys = output_keys(result)
        index = pick(keys, output)
        require_rows(leaf(result, index), len(x))
        exported = _export(copy, x)
        program = _plain(exported, index)
        if program.lowers and dtype == torch.float64:
            raise _Float32Only
        if dtype == torch.float64 != float_type(module) and eps_is_of(program, dtype):
            raise _Float32Only("takes the eps of float32 (rms_norm without eps)")
        network = set_aside_head(_build(program, exported, index))
    network = _check(network, copy, index, dtype)
    hooked = foreign_hooks(module)
    if hooked:
        network = _check_hooks(network, module, index, dtype, hooked)
    return network


def _run_once(copy: nn.Module, x: Tensor, given: bool) -> tuple[Tensor, Any]:
    """The example, or its first row where the copy takes no more, and what it gives for it."""
    try:
        return x, copy(x)
    except Exception as error:
        if _takes(copy, x[:1]):
            return x[:1], copy(x[:1])
        if x.dtype == torch.float64 and _takes(copy.to(torch.float32), x.float()):
            raise _Float32Only from error
        raise ModelError(_refused(tuple(x.shape[1:]), error, given)) from error


def _refused(shape: tuple[int, ...], error: Exception, given: bool) -> str:
    if given:
        return (
            f"the module does not take the example, rows of shape {shape}: "
            f"{type(error).__name__}: {_line(error)}. Pass an example it can be called on."
        )
    return (
        f"the shape of the module's input cannot be guessed (rows of {shape} do not go through "
        f"it): pass example=, one row or a few of its input"
    )


def _takes(run: Callable[[Tensor], Any], x: Tensor) -> bool:
    try:
        with torch.no_grad():
            run(x)
    except Exception:  # noqa: BLE001 - the user's forward: any failure means it does not take x
        return False
    return True


def _check(network: Network, copy: nn.Module, index: int, dtype: torch.dtype) -> Network:
    """Checked on rows together; where that fails but each row alone agrees, rows are mixed."""

    def together(x: Tensor) -> Any:
        return leaf(copy(x.flatten(0, 1)), index)

    def alone(x: Tensor) -> Any:
        return torch.stack([leaf(copy(row), index) for row in x])

    require_finite(network, masks=True)

    def check(run: Callable[[Tensor], Any]) -> Network:
        return check_reading(network, run, source=SOURCE, exact_dtype=dtype)

    with _quiet():
        rows = torch.zeros(2, *network.input_shape, dtype=dtype)
        if not _takes(together, rows):
            note = "the module takes one row at a time, and was checked so"
            checked = check(alone)
            return dataclasses.replace(checked, notes=(*checked.notes, note))
        try:
            return check(together)
        except ReadingMismatch as mismatch:
            _refuse_mixing(check, alone, mismatch)
            raise


def _refuse_mixing(
    check: Callable[[Callable[[Tensor], Any]], Network],
    alone: Callable[[Tensor], Any],
    mismatch: ReadingMismatch,
) -> None:
    try:
        check(alone)
    except ReadingMismatch:
        return
    raise UnsupportedLayer(
        "the module mixes rows: it gives a row one answer by itself and another among other rows, "
        "so no row has a rule of its own. Look for an operation over the axis of rows (batch "
        "statistics, a softmax or sum over dim 0)."
    ) from mismatch


def _check_hooks(
    network: Network, module: nn.Module, index: int, dtype: torch.dtype, hooked: list[str]
) -> Network:
    """The user's forward hooks are run once, to see that they only look."""
    copy = frozen_copy(module, dtype, hooks=True)
    names = ", ".join(f"'{name}'" for name in hooked)
    try:
        check_reading(
            network, lambda x: leaf(copy(x.flatten(0, 1)), index), source=SOURCE, exact_dtype=dtype
        )
    except ReadingMismatch as error:
        raise UnsupportedLayer(
            f"a forward hook on {names} changes what the module computes: remove it "
            f"(handle.remove()), or put what it does into the module"
        ) from error
    note = f"forward hooks on {names} were run once and do not change the output"
    return dataclasses.replace(network, notes=(*network.notes, note))


# -- torch.export --


def _export(copy: nn.Module, x: Tensor) -> Any:
    """Exported for any number of rows; where torch fixes their number, for one row."""
    if len(x) == 1:
        return _export_row(copy, x)
    try:
        dims = ({0: torch.export.Dim("rows")},)
        return torch.export.export(copy, (x,), dynamic_shapes=dims)
    except Exception:  # noqa: BLE001 - torch raises whatever it met; one row may still do
        return _export_row(copy, x[:1])


def _export_row(copy: nn.Module, x: Tensor) -> Any:
    try:
        return torch.export.export(copy, (x,))
    except Exception as error:
        raise UnsupportedLayer(_untraceable(error)) from error


def _untraceable(error: Exception) -> str:
    text = str(error)
    data = "data-dependent" in text or "DataDependent" in type(error).__name__
    if data:
        return (
            f"what the module does depends on the data{_where(text)}: a network with rules "
            f"computes the same steps for every row, so write the choice as torch.where, or read "
            f"the branches as models of their own"
        )
    return (
        f"torch.export cannot trace the module{_where(text)}: {type(error).__name__}: "
        f"{_line(error)}. Call torch.export.export on it to see why, or export it to ONNX."
    )


def _where(text: str) -> str:
    """' (model.py:12: if x.sum() > 0:)': the user's line, where torch tells it."""
    found = re.findall(r'File "([^"]+)", line (\d+), in \w+\n\s+(.+)', text)
    own = [f for f in found if "/torch/" not in f[0]] or found
    if not own:
        return ""
    path, line, code = own[-1]
    return f" ({path.replace(chr(92), '/').rsplit('/', 1)[-1]}:{line}: {code.strip()})"


def _line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or ["no message"])[0].rstrip(".")


def _plain(exported: Any, index: int) -> Program:
    """The program; without in-place operations where old names are read after them."""
    program = _with_eps(exported, from_exported(exported, index))
    require_stateless(program)
    if in_place_is_plain(program):
        return program
    return _with_eps(exported, from_exported(_decomposed(exported, {}), index))


def _with_eps(exported: Any, program: Program) -> Program:
    """The program with every eps said, from the type of the input it was traced with."""
    inputs = (n.meta["val"] for n in exported.graph.nodes if n.name == program.input)
    return with_eps(program, next(inputs).dtype)


def _build(program: Program, exported: Any, index: int) -> Network:
    """The Network; operators the table does not know are taken apart by torch, once."""
    try:
        return build(program)
    except UnknownOperator as unknown:
        try:
            return build(exact(from_exported(_decomposed(exported), index)))
        except UnsupportedLayer:
            raise unknown from None


def _decomposed(exported: Any, *table: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own code
        return exported.run_decompositions(*table)


def _mode_notes(module: nn.Module) -> tuple[str, ...]:
    if not module.training:
        return ()
    return ("the module was in train mode and was read as in eval: no dropout, running statistics",)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export logs whole graphs where it fails; what matters of that goes into our errors."""
    log = logging.getLogger("torch")
    names = [n for n in log.manager.loggerDict if n.startswith(("torch.fx", "torch.export"))]
    loggers = [logging.getLogger(n) for n in [*names, "torch._export", "torch._dynamo"]]
    before = [(one, one.level) for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in before:
            one.setLevel(level)
