"""From what a request gives to what a function gives: checked arrays in, finite arrays out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae.data.cells import cells_of
from keras_ae.data.columns import without_missing
from keras_ae.data.labels import label_index
from keras_ae.data.sequences import is_ragged
from keras_ae.errors import InputError
from keras_ae.serving.versions import NotServed, Version
from keras_ae.signatures import DEFAULT, DEFAULT_NAMES

Outputs = dict[str, np.ndarray]

MOST_VALUES = 1 << 24
"""In one answer: a request of a few bytes may ask for many large images."""
_PADDED = ("x", "x_hat")
_OF_COLUMNS = ("reconstruct", "explain")
_SAMPLING = ("n", "seed", "missing")
_MOST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Call:
    """A function on rows that are of the right number, by name.

    Attributes:
        version: whose function it is.
        function: its name.
        arrays: its inputs; their values are checked when it runs.
        rows: how many.
        by_columns: whether what it gives for each column of a table goes back by its name, in words and dates.
    """

    version: Version
    function: str
    arrays: dict[str, np.ndarray]
    rows: int
    by_columns: bool = False

    @property
    def seconds(self) -> float:
        """That it may take, at most."""
        return self.rows * self.version.seconds[self.function]

    def run(self) -> Outputs:
        """Its outputs by name.

        Raises:
            InputError: for rows of a wrong shape, type or size, by their number.
        """
        outputs = self.version.model.run(self.function, self.arrays)
        for name, array in outputs.items():
            if self.version.has_series and name in _PADDED:
                continue  # NaN behind the end of a series is null in JSON
            # Also what is too large for JSON, which has no infinity: the sum is finite where each value is, but for
            # values that no observation has.
            known = array[~np.isnan(array)] if self.function == "generate" and self.version.has_cells else array
            if not np.isfinite(known.sum()) and not np.isfinite(known).all():
                raise InputError(f"The rows must give finite numbers. Received rows whose `{name}` is not finite.")
        return outputs

    def columns(self, outputs: Outputs) -> Outputs:
        """What goes back by the names of columns: cells, numbers or else text, None where one is missing; of `explain`
        what each adds.
        """
        (x,) = outputs.values()
        model = self.version.model
        return dict(zip(model.columns or (), x.T, strict=True)) if self.function == "explain" else model.table(x)


def resolved(version: Version, function: Any) -> str:
    """The name of a function as it is asked for; none, or `serving_default`, is the default one.

    Raises:
        NotServed: for one that the model does not have.
        InputError: for what is no name.
    """
    if not isinstance(function, str):
        raise InputError(f"`signature_name` must be text. Received: {type(function).__name__}.")
    function = DEFAULT if function in DEFAULT_NAMES else function
    if function not in version.signatures:
        raise NotServed(
            f"Model {version.name!r} has no signature {function[:80]!r}. It has: {_listed(version.signatures)}."
        )
    return function


def prepare(version: Version, function: str, given: Any, most_rows: int) -> Call:
    """A call of a function on what a request gives.

    Args:
        version: of the model.
        function: by name.
        given: arrays or lists by name. A label may be left out, or be names of classes; `generate` takes `n`, and
            perhaps a `seed`, one label for all rows, and `missing`, false for a table without missing cells, instead of
            `epsilon`. Instead of raw `x` of a table come the cells of each column by its name, numbers, words, dates,
            None; an array `x` holds codes and days.
        most_rows: that are taken, or fewer where an answer would have more than 2^24 values.

    Raises:
        InputError: for inputs that it does not take, or too many rows.
    """
    inputs = version.signatures[function]["inputs"]
    most_rows = min(most_rows, max(1, MOST_VALUES // version.values[function]))
    if not isinstance(given, dict):
        raise InputError(f"The inputs of {function} must go by name: {_listed(inputs)}.")
    is_sampled = "epsilon" in inputs and "n" in given
    if is_sampled:
        given = _sampled(version, given, inputs["epsilon"]["shape"], most_rows)
    elif version.has_columns and "x" in inputs and given.keys() - inputs.keys():
        x = _from_cells(version, given, most_rows)
        return Call(version, function, {"x": x}, len(x), function in _OF_COLUMNS)
    foreign = [name for name in given if name not in inputs]
    missing = [name for name in inputs if name not in given and name != "label"]
    if foreign or missing:
        raise InputError(f"{function} must have the inputs {_listed(inputs)}. Received: {_listed(given) or 'none'}.")
    arrays = {name: _array(given[name], name, version) for name in inputs if name != "label"}
    first, array = next(iter(arrays.items()))
    rows = array.shape[0] if array.ndim else 0
    if not 1 <= rows <= most_rows:
        raise InputError(f"`{first}` must have 1 to {most_rows:,} rows in one request. Received: {rows:,}.")
    if "label" in inputs:
        arrays["label"] = _labels(given.get("label"), rows, version.classes)
    return Call(version, function, arrays, rows, is_sampled and version.has_columns)


def required(inputs: dict[str, Any]) -> list[str]:
    """The inputs of a function that can't be left out."""
    return [name for name in inputs if name != "label"]


def _sampled(version: Version, given: dict[str, Any], shape: list[int], most_rows: int) -> dict[str, Any]:
    n, seed, missing = given["n"], given.get("seed"), given.get("missing", True)
    if type(n) is not int or not 1 <= n <= most_rows:
        raise InputError(f"`n` must be 1 to {most_rows:,}. Received: {n!r}.")
    if seed is not None and (type(seed) is not int or not 0 <= seed <= _MOST_SEED):
        raise InputError(f"`seed` must be a whole number of at least 0. Received: {seed!r}.")
    if not isinstance(missing, bool) or ("missing" in given and not version.has_cells):
        raise InputError(f"`missing` must be true or false, and is of a table. Received: {missing!r}.")
    rest = {name: value for name, value in given.items() if name not in _SAMPLING}
    if "epsilon" in rest:
        raise InputError("`generate` takes either `epsilon` or `n`. Received both.")
    epsilon = np.random.default_rng(seed).standard_normal((n, *shape), dtype=np.float32)
    return {"epsilon": epsilon if missing else without_missing(version.model.schema_of_table(), epsilon), **rest}


def _from_cells(version: Version, given: dict[str, Any], most_rows: int) -> np.ndarray:
    """Cells by column as rows of numbers, codes and days."""
    columns = {}
    for name, cells in given.items():
        if (
            isinstance(cells, np.ndarray) and cells.ndim == 2 and cells.shape[1] == 1
        ):  # as the protocol's tensors may be
            cells = cells.reshape(-1)
        is_column = cells.ndim == 1 if isinstance(cells, np.ndarray) else isinstance(cells, list)
        if not is_column or any(isinstance(cell, list | dict) for cell in cells):
            raise InputError(f"Column {name[:80]} must be a list of cells: numbers, text, true, false or null.")
        if not 1 <= len(cells) <= most_rows:
            raise InputError(f"Columns must have 1 to {most_rows:,} rows in one request. Received: {len(cells):,}.")
        columns[name] = cells
    model = version.model
    x, problems = model.schema_of_table().encode(cells_of(columns, "The table"), model.ignored)
    if problems:
        raise InputError(problems[0].message)
    return x


def _array(value: Any, name: str, version: Version) -> np.ndarray:
    if version.has_series and name == "x":
        if not (is_ragged(value) or (isinstance(value, np.ndarray) and value.ndim == 3)):
            raise InputError(f"`{name}` must be series, lists of steps. Received: {type(value).__name__}.")
        rows: np.ndarray = version.model.padded(value)
        return rows
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and version.has_cells and name == "x":
            array = np.array(value, "float64")  # null is NaN
    except (ValueError, TypeError, OverflowError) as error:
        rule = f"`{name}` must be numbers, as many in each row. {_hint(version)}"
        raise InputError(f"{rule}Received: {error}.") from error
    if array.dtype.kind not in "biuf":
        received = "text, null, or lists of different length"
        raise InputError(f"`{name}` must be numbers. {_hint(version)}Received: {received}.")
    return array


def _hint(version: Version) -> str:
    return "Words and dates go by the names of their columns. " if version.has_cells else ""


def _labels(value: Any, rows: int, classes: tuple[str, ...]) -> np.ndarray:
    if isinstance(value, dict):
        raise InputError("`label` must be one class, or a list of one a row. Received: an object.")
    try:
        return label_index(value, rows, classes)
    except InputError as error:
        raise InputError(str(error).replace("`y`", "`label`")) from error


def _listed(names: Any) -> str:
    return ", ".join(names)
