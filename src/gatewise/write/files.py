"""write_onnx(network, path): an ONNX file of the same function, compared before it appears."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.errors import DataError, InternalError, ModelError, missing
from gatewise.given.rows import require_network, rows_of
from gatewise.ir.kinds import Affine, Pieces, Product, Winner
from gatewise.ir.network import Network, Node, fold, with_head
from gatewise.ir.rounding import enclose
from gatewise.numeric import as_float_dtype, gamma
from gatewise.tables.writing import whole_file
from gatewise.write.affine import affine
from gatewise.write.curves import smooth
from gatewise.write.gates import pieces, product, winner
from gatewise.write.graph import Draft

Array = NDArray[Any]
ROWS, REPEAT = 32, 5
# of the largest output (or of 1): more is an error where the bound is wider than that
STATED = {torch.float32: 1e-4, torch.float64: 1e-9}
LARGEST = 2_000_000_000  # bytes of one protobuf


@dataclass(frozen=True, eq=False)
class Written:
    """A file: its bytes, operators and parameters; error: the largest difference from the network

    on `rows` rows as `runtime` runs it; bound: what rounding in the file's float type explains.
    seconds: CPU seconds a row. source: the same of the file it stands for, where one was named, and
    `source_error` the largest difference from that.
    """

    path: Path
    bytes: int
    operators: int
    parameters: int
    error: float
    bound: float
    rows: int
    runtime: str
    seconds: float
    source: Written | None = None
    source_error: float | None = None

    def __str__(self) -> str:
        mine = (self.bytes, self.operators, self.parameters, 1e6 * self.seconds)
        names = ("bytes", "operators", "parameters", "CPU us a row")
        if self.source is None:
            lines = [f"{name:<14}{a:>12,.0f}" for name, a in zip(names, mine, strict=True)]
        else:
            old = self.source
            before = (old.bytes, old.operators, old.parameters, 1e6 * old.seconds)
            lines = [
                f"{name:<14}{a:>12,.0f} -> {b:>12,.0f}"
                for name, a, b in zip(names, before, mine, strict=True)
            ]
            lines.append(f"differs by {self.source_error:.2g} from '{old.path.name}'")
        lines.append(
            f"differs by {self.error:.2g} from the network on {self.rows} rows ({self.runtime}), "
            f"bound {self.bound:.2g}"
        )
        return f"'{self.path.name}'\n" + "\n".join(lines)


def onnx_model(network: Network, dtype: torch.dtype | str = torch.float32) -> Any:
    """The ONNX model of a network, its head included: rows in front, opset 17.

    Raises UnsupportedLayer, naming the first node that no operator is known for.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise missing("onnx", "onnx", "writing an ONNX file") from error
    require_network(network)
    network = with_head(network.to(torch.float64, "cpu"))
    draft = Draft(network, as_float_dtype(dtype))

    def step(node: Node, _: list[None]) -> None:
        draft.at = node
        draft.values[node.name] = _write(draft, node)

    fold(network, None, step)
    return draft.model(draft.values[network.output])


def _write(draft: Draft, node: Node) -> str:
    kind = node.kind
    if isinstance(kind, Affine):
        return affine(draft, kind)
    if isinstance(kind, Pieces):
        return pieces(draft, kind)
    if isinstance(kind, Winner):
        return winner(draft, kind)
    return product(draft, kind) if isinstance(kind, Product) else smooth(draft, kind)


def write_onnx(
    network: Network,
    path: str | Path,
    X: Any = None,
    *,
    dtype: torch.dtype | str = torch.float32,
    source: str | Path | None = None,
) -> Written:
    """Write the network to an ONNX file that was run on rows X (random ones by default) and agrees.

    source: the ONNX file that the network came from, to be compared with in size, speed and value.
    Run by onnxruntime where it is installed and can, else by onnx's own reference.
    Raises InternalError, and leaves no file, where the two differ by more than rounding explains.
    """
    model = onnx_model(network, dtype)
    data = model.SerializeToString()
    if len(data) > LARGEST:
        raise DataError(f"the file would have {len(data):,} bytes, more than one ONNX file holds")
    network = network.to(torch.float64, "cpu")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(ROWS, network.inputs, generator=generator) if X is None else X
    x = rows_of(network, rows).to(as_float_dtype(dtype))
    if not bool(x.isfinite().all()):
        raise DataError(
            "X holds numbers that do not fit float32: leave them out, or dtype='float64'"
        )
    out = Path(path)
    made = _compared(out, model, data, network, x)
    old = None if source is None else _source(Path(source), x)
    if old is not None and old[1].shape != (len(x), network.outputs):
        raise ModelError(
            f"source '{source}' gives {old[1].shape[1]} numbers a row, and the network "
            f"{network.outputs}: name the ONNX file that the network came from"
        )
    with whole_file(out) as draft:
        draft.write_bytes(data)
    if old is None:
        return made[0]
    gap = float(np.abs(old[1] - made[1].reshape(len(x), -1)).max())
    return dataclasses.replace(made[0], source=old[0], source_error=gap)


def _compared(
    path: Path, model: Any, data: bytes, network: Network, x: Tensor
) -> tuple[Written, Array]:
    run, runtime = _runner(model, data)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    theirs, seconds = _timed(run, x.reshape(len(x), *shape).numpy())
    value = torch.as_tensor(theirs).double().reshape(len(x), -1)
    ours = network.predict(x.double())
    top = max(1.0, float(ours.abs().max()))
    with torch.no_grad():  # twice: its arithmetic, and its numbers rounded to that type
        bound = 2 * enclose(with_head(network.to(x.dtype)), x).error.double()
    bound = bound.reshape(len(x), -1).nan_to_num(torch.inf, torch.inf) + gamma(8, x.dtype) * top
    gap = (value - ours).abs()
    allowed = bound.clamp(max=STATED[x.dtype] * top)
    if not bool((gap <= allowed).all()):
        raise InternalError(
            f"the ONNX file would differ from the network by {float(gap.max()):g}, more than "
            f"rounding explains ({float(allowed.max()):g}): it was not written"
        )
    worst = int(gap.flatten().argmax())
    told = Written(
        path,
        len(data),
        len(model.graph.node),
        _parameters(model),
        float(gap.max()),
        float(bound.flatten()[worst]),
        len(x),
        runtime,
        seconds,
    )
    return told, theirs


def _source(path: Path, x: Tensor) -> tuple[Written, Array]:
    """The same figures of another file; one that takes a row at a time is run so."""
    import onnx

    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
        return _ran(path, model, data, x)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"source '{path}' could not be run on rows of {x[0].numel()} numbers ({reason}): name "
            f"the ONNX file that the network came from"
        ) from error


def _ran(path: Path, model: Any, data: bytes, x: Tensor) -> tuple[Written, Array]:
    run, runtime = _runner(model, data)
    constants = {t.name for t in model.graph.initializer}
    given = next(i for i in model.graph.input if i.name not in constants)
    dims = [d.dim_value for d in given.type.tensor_type.shape.dim]
    single = bool(dims) and dims[0] > 0

    def whole(rows: Array) -> Array:
        if not single:
            return run(rows)
        return np.concatenate([run(r.reshape(dims)).reshape(1, -1) for r in rows])

    rows = x.float().numpy().reshape(len(x), *dims[1:])
    theirs, seconds = _timed(whole, rows)
    sizes = (len(data), len(model.graph.node), _parameters(model))
    told = Written(path, *sizes, 0.0, 0.0, len(x), runtime, seconds)
    return told, theirs.reshape(len(x), -1)


def _runner(model: Any, data: bytes) -> tuple[Callable[[Array], Array], str]:
    """run(x) of one thread, and the name of what runs it."""
    constants = {t.name for t in model.graph.initializer}
    name = next(i.name for i in model.graph.input if i.name not in constants)
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        return _reference(model, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  broad: C++ that lacks some operators in some float types
        return _reference(model, name)
    return lambda x: np.asarray(session.run(None, {name: x})[0]), "onnxruntime"


def _reference(model: Any, name: str) -> tuple[Callable[[Array], Array], str]:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)

    def run(x: Array) -> Array:
        try:
            values: Any = evaluator.run(None, {name: x})
        except Exception as error:  # its own slips, on operators it has in float32
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"nothing here can run the ONNX file in {x.dtype} ({reason}): it was not written; "
                "write it in float32"
            ) from error
        return np.asarray(values[0])

    return run, "onnx.reference"


def _timed(run: Callable[[Array], Array], x: Array) -> tuple[Array, float]:
    """The value, and the median CPU seconds a row."""
    took = []
    for _ in range(REPEAT):
        start = time.process_time()
        value = run(x)
        took.append(time.process_time() - start)
    return value, statistics.median(took) / len(x)


def _parameters(model: Any) -> int:
    """Numbers in float constants."""
    floats = {1, 10, 11, 16}
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type in floats)
