"""What an Explainer keeps of a network, and what it makes of tables and of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from gatewise.errors import DataError
from gatewise.explain.attribute import attribute
from gatewise.explain.compute import deviation, quiet
from gatewise.explain.explanation import Explanation, explain
from gatewise.explain.groups import groups_of
from gatewise.explain.inputs import OnBadRows, inputs_of, reference_of, split_target
from gatewise.explain.names import feature_names, pick_outputs
from gatewise.ir.network import Network
from gatewise.numeric import whole_number
from gatewise.patterns.streaming import is_stored
from gatewise.tables import listed

if TYPE_CHECKING:
    from gatewise.explain.cohorts.cohorts import Cohorts
    from gatewise.explain.streaming.explaining import StreamedExplanation
    from gatewise.patterns.streaming.parts import OnBadFiles

Progress = Callable[[str, int, int], None]
Engine = Literal["ray"]
TOP = 1000  # clusters whose sums are kept
STORED = {"out": None, "cohorts": None, "top": TOP, "on_bad_files": "raise"}
STORED |= {"engine": None, "address": None}


class NetworkExplainer:
    """`Explainer` of a Network, which has its arguments."""

    def __init__(
        self,
        network: Network,
        data: Any = None,
        *,
        output: Sequence[int | str] | int | str | None = None,
        reference: Any = None,
        groups: Mapping[str, Sequence[int | str]] | None = None,
        margin: bool = True,
        batch_size: int | None = None,
        on_bad_rows: OnBadRows = "raise",
    ) -> None:
        self.network = network
        self.background = None if data is None else inputs_of(network, data, on_bad_rows)
        self.output, self.reference, self.groups = output, reference, groups
        self.margin, self.on_bad_rows = margin, on_bad_rows
        self.batch_size = None if batch_size is None else whole_number(batch_size, "batch_size")
        pick_outputs(network, output)  # refused now, and not after a table was read

    @overload
    def __call__(
        self,
        X: str | Path,
        *,
        target: str | None = None,
        progress: Progress | None = None,
        out: str | Path | None = None,
        on_bad_files: OnBadFiles = "raise",
        cohorts: Cohorts | None = None,
        top: int = TOP,
        engine: Engine | None = None,
        address: str | None = None,
    ) -> StreamedExplanation: ...

    @overload
    def __call__(
        self,
        X: Any,
        *,
        target: str | Sequence[Any] | None = None,
        progress: Progress | None = None,
    ) -> Explanation: ...

    def __call__(
        self,
        X: Any,
        *,
        target: str | Sequence[Any] | None = None,
        progress: Progress | None = None,
        out: str | Path | None = None,
        on_bad_files: OnBadFiles = "raise",
        cohorts: Cohorts | None = None,
        top: int = TOP,
        engine: Engine | None = None,
        address: str | None = None,
    ) -> Explanation | StreamedExplanation:
        """The Explanation of X, a table, an array or the path of one: see `explain`."""
        how: dict[str, Any] = {"out": out, "cohorts": cohorts, "top": top}
        how |= {"on_bad_files": on_bad_files, "engine": engine, "address": address}
        if is_stored(X):
            return self._streamed(X, target=target, progress=progress or quiet, **how)
        others = [name for name, value in how.items() if value != STORED[name]]
        if others:
            raise DataError(
                f"{listed([f'{name}=' for name in others])} is for tables in files, and this one "
                "is in memory: leave it out, or give the path of a file or folder"
            )
        return self._explained(X, target, progress)

    def _streamed(self, source: Any, **how: Any) -> StreamedExplanation:
        from gatewise.explain.streaming.explaining import ask

        own = {"output": self.output, "reference": self.reference, "groups": self.groups}
        own |= {"margin": self.margin, "batch_size": self.batch_size}
        own |= {"on_bad_rows": self.on_bad_rows, "background": self.background}
        return ask(self.network, source, **own, **how)

    def _explained(
        self, X: Any, target: str | Sequence[Any] | None, progress: Progress | None
    ) -> Explanation:
        table, truth, name = split_target(X, target)
        matrix = inputs_of(self.network, table, self.on_bad_rows)
        groups_of(self.network, feature_names(self.network, matrix), self.groups)
        behind = self.background or matrix
        base, base_name = reference_of(self.network, behind, self.reference, name)
        return explain(
            self.network,
            matrix,
            outputs=self.output,
            target=None if truth is None else truth[matrix.index],
            target_name=name,
            reference=base,
            reference_name=base_name,
            scale=None if self.background is None else deviation(behind.values),
            groups=self.groups,
            margin=self.margin,
            batch_size=self.batch_size,
            progress=progress,
        )

    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        baselines: Any = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Tensors in, tensors of the same shape out, as Captum's users call it: see `attribute`.

        W_target (x - baseline); baselines default to the explainer's own reference, else to 0.
        For exact integrated gradients see `integrated_gradients`.
        """
        if baselines is None and (self.reference is not None or self.background is not None):
            baselines = self._own_baseline()
        return attribute(self.network, inputs, target, baselines, return_convergence_delta)

    def _own_baseline(self) -> torch.Tensor:
        """(1, *input_shape) the reference, which needs a background where it is a mean, say."""
        if self.background is None:
            raise DataError(
                "attribute has no table to take the reference from: give the Explainer data=, or "
                "attribute baselines="
            )
        row, _ = reference_of(self.network, self.background, self.reference)
        return torch.from_numpy(row).reshape(1, *self.network.input_shape)

    def __repr__(self) -> str:
        return f"Explainer({self.network!r})"
