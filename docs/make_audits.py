"""Makes the audits of docs/explanation/audits.md: five tables, a small network each, the command.

    python docs/make_audits.py [NAME ...]

Each network is trained here on three quarters of the rows, by scikit-learn with a fixed seed, and
written as ONNX with the tables to a temporary folder; `gatewise audit` does the rest.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
import tabular  # noqa: E402

STATIC = HERE / "_static" / "audits"
TARGETS = {  # column of the target, and width of the two hidden layers
    "titanic": ("survived", 16),
    "heloc": ("default", 32),
    "german_credit": ("bad", 16),
    "adult": ("income_above_50K", 32),
    "california_housing": ("value_in_100k", 32),
}
PENALTIES = (1e-3, 0.1, 1.0)  # weight decay, the best on a tenth of the training rows
DRAWN = "california_housing"  # whose gains are a picture on the page
UNIT = {"california_housing": 100_000.0}


def tables(name: str) -> tuple[pd.DataFrame, pd.DataFrame, Any, Any]:
    """Inputs as numbers (medians for what is missing, a 0/1 column a level), and the targets."""
    x_train, x_test, y_train, y_test = tabular.split(name)
    table, _, numbers, categories = tabular.load(name)
    steps = tabular.typical(table, numbers, categories)
    for key, step, _ in steps.transformers:
        if key == "num":
            step.steps.pop()  # scaled in the network's first layer instead
    raw = steps.fit(x_train)
    names = [_column(n, categories) for n in raw.get_feature_names_out()]
    frames = [pd.DataFrame(_dense(raw.transform(x)), columns=names) for x in (x_train, x_test)]
    scale = UNIT.get(name, 1.0)
    return (*frames, *(y / scale if y.dtype.kind == "f" else y for y in (y_train, y_test)))


def _column(name: str, categories: list[str]) -> str:
    """`cat__Sex_male` as `Sex=male`."""
    kind, _, rest = name.partition("__")
    found = [c for c in categories if kind == "cat" and rest.startswith(f"{c}_")]
    return f"{found[0]}={rest.removeprefix(found[0] + '_')}" if found else rest


def _dense(x: Any) -> Any:
    return x.toarray() if hasattr(x, "toarray") else x


def train(x: pd.DataFrame, y: Any, width: int) -> list[tuple[Any, Any]]:
    """(weight, bias) of each layer, the scaling of inputs and target folded in."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    numbers = y.dtype.kind == "f"
    mean, spread = x.mean().to_numpy(), x.std(ddof=0).to_numpy()
    spread = np.where(spread > 0, spread, 1.0)
    start, unit = (y.mean(), y.std()) if numbers else (0.0, 1.0)
    kind = MLPRegressor if numbers else MLPClassifier
    nets = [
        kind(hidden_layer_sizes=(width, width), alpha=alpha, early_stopping=True,
             n_iter_no_change=15, max_iter=300, random_state=0,
             batch_size=min(200, len(x) // 20))
        for alpha in PENALTIES
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for net in nets:
            net.fit((x.to_numpy() - mean) / spread, (y - start) / unit if numbers else y)
    net = max(nets, key=lambda found: found.best_validation_score_)
    layers = [(w.T.copy(), b.copy()) for w, b in zip(net.coefs_, net.intercepts_, strict=True)]
    w, b = layers[0]
    layers[0] = (w / spread, b - w @ (mean / spread))
    w, b = layers[-1]
    layers[-1] = (w * unit, b * unit + start)
    return layers


def write_onnx(layers: list[tuple[Any, Any]], path: Path, head: bool) -> None:
    """Gemm, Relu, ..., and a Sigmoid for classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, at = [], [], "x"
    for k, (w, b) in enumerate(layers):
        weights += [numpy_helper.from_array(v, n) for v, n in ((w, f"w{k}"), (b, f"b{k}"))]
        nodes.append(helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [f"z{k}"], transB=1))
        at = f"z{k}"
        if k < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [at], [f"h{k}"], f"relu{k}"))
            at = f"h{k}"
    if head:
        nodes.append(helper.make_node("Sigmoid", [at], ["p"]))
        at = "p"
    sizes = {"x": layers[0][0].shape[1], at: layers[-1][0].shape[0]}
    ends = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, ["rows", size])
            for n, size in sizes.items()]  # fmt: skip
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def make(name: str, folder: Path) -> dict[str, Any]:
    """The files of one table, and the command on them."""
    target, width = TARGETS[name]
    x_train, x_test, y_train, y_test = tables(name)
    files = {part: folder / f"{name}-{part}.csv" for part in ("train", "test")}
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        x.assign(**{target: y}).to_csv(files[part], index=False)
    model = folder / f"{name}.onnx"
    write_onnx(train(x_train, y_train, width), model, y_train.dtype.kind != "f")
    out = folder / name
    command = [sys.executable, "-m", "gatewise", "audit", model, files["train"], "--target", target]
    command += ["--test", files["test"], "--out", out, "--format", "png"]
    command += ["--title", f"How linear is it? {name}"]
    subprocess.run([str(part) for part in command], check=True)
    STATIC.mkdir(parents=True, exist_ok=True)
    shutil.copy(out / "report.html", STATIC / f"{name}.html")
    if name == DRAWN:
        shutil.copy(out / "gains.png", STATIC / f"{name}_gains.png")
    found: dict[str, Any] = json.loads((out / "audit.json").read_text("utf-8"))
    return found


def row(name: str, found: dict[str, Any]) -> str:
    """A line of the table in docs/explanation/audits.md."""
    models = {line["key"]: line for line in found["models"]}
    measure = found["headline"]

    def said(key: str, what: str = "figures", signed: bool = False) -> str:
        i = models[key][what][measure]
        if not signed:
            return f"{i['value']:.3f}"
        return f"{i['value']:+.3f} [{i['low']:+.3f}, {i['high']:+.3f}]".replace("-", "\u2212")

    cells = [said("network"), said("linear"), said("linear", "network_ahead", True)]
    cells += [said("affine"), said("cohorts"), f"{100 * found['affine_map']['explains']:.0f} %"]
    cells += [f"{100 * found['units_never_switching']:.0f} %", f"{found['effective_regions']:,.0f}"]
    rows = f"{found['fit_rows']:,} / {found['test_rows']:,}"
    return f"| {name} | {rows} | {measure} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    lines = []
    for chosen in sys.argv[1:] or TARGETS:
        with tempfile.TemporaryDirectory() as scratch:
            found = make(chosen, Path(scratch))
        lines += [row(chosen, found)]
        print(found["verdict"])
    print("\n".join(lines))
