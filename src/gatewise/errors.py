"""Every error Gatewise raises: one tree, one sentence each (the fact, what was got, what to do).

A user's mistake is a `GatewiseError`; a mistake of ours is an `InternalError`, which says so.
"""

from __future__ import annotations


class GatewiseError(Exception):
    """Root of the tree: catch this to catch everything Gatewise raises on purpose."""


class ModelError(GatewiseError, ValueError):
    """The model cannot be read; the message names the node, parameter or input that stopped it."""


class UnsupportedLayer(ModelError):
    """A layer, or a setting of it, that the table does not hold; named with its path."""


class UnsafeModel(ModelError):
    """Opening the model could run code or read files it should not; nothing of it was opened."""


class CorruptModel(ModelError):
    """The file is truncated or is not what its name says."""


class ReadingMismatch(ModelError):
    """The Network that was read does not compute what its source computes; it is not returned."""


class NotPiecewiseAffine(GatewiseError, TypeError):
    """A region or an affine map was asked of a network that has none; names the node to blame."""


class NotGated(GatewiseError, TypeError):
    """Paths and their kernel were asked of a network whose gates are not on/off; names the node."""


class NotBilinear(GatewiseError, TypeError):
    """A third-order tensor was asked of a Product that is not quadratic in one value; names it."""


class DataError(GatewiseError, ValueError):
    """The table or array cannot be used as it is."""


class BadRows(DataError):
    """Rows hold NaN or infinity; `rows` lists their positions."""

    def __init__(self, message: str, rows: tuple[int, ...]) -> None:
        super().__init__(message)
        self.rows = rows

    def __reduce__(self) -> tuple[type[BadRows], tuple[str, tuple[int, ...]]]:
        """So that it can be raised in one process and caught in another."""
        return type(self), (str(self), self.rows)


class WrongShape(DataError):
    """The array's shape does not fit the network's input."""


class WrongColumns(DataError):
    """The table's columns are not those the model was trained on, or are not numbers."""


class EmptyData(DataError):
    """There is no row to work on."""


class OutputError(GatewiseError, OSError):
    """A result could not be written; nothing half-written was left behind."""


class EngineError(GatewiseError, RuntimeError):
    """The engine that was to share out the work cannot be reached, or gave up on a part of it."""


class Diverged(GatewiseError, ArithmeticError):
    """Training met a loss that is not finite; the message names the epoch."""


class MissingExtra(GatewiseError, ImportError):
    """An optional package is needed; the message says which extra installs it."""


class InternalError(GatewiseError, AssertionError):
    """A fact Gatewise relies on did not hold: a bug of ours, please report it."""


def missing(package: str, extra: str, task: str) -> MissingExtra:
    """The error for an optional package that is not installed."""
    return MissingExtra(
        f"{task} needs the package '{package}', which is not installed: "
        f"pip install 'gatewise[{extra}]'"
    )
