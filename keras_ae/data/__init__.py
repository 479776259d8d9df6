"""Sources, splits and preprocessing: NumPy in, NumPy out."""

from keras_ae.data.batches import read_batches
from keras_ae.data.columns import ColumnStatistics, fit_columns, fit_support
from keras_ae.data.kinds import infer
from keras_ae.data.output import write_batches, write_rows
from keras_ae.data.preprocessing import Statistics, fit_scaling
from keras_ae.data.schema import Column, Schema
from keras_ae.data.sequences import padded, unpadded
from keras_ae.data.source import Source
from keras_ae.data.sources import BUILTIN, load_source
from keras_ae.data.splits import Splits, split
from keras_ae.data.tables import Rows, check_finite, read_rows
from keras_ae.data.windows import Windowing

__all__ = [
    "BUILTIN",
    "Column",
    "ColumnStatistics",
    "Rows",
    "Source",
    "Schema",
    "Splits",
    "Statistics",
    "Windowing",
    "check_finite",
    "fit_columns",
    "fit_scaling",
    "fit_support",
    "infer",
    "load_source",
    "padded",
    "read_batches",
    "read_rows",
    "split",
    "unpadded",
    "write_batches",
    "write_rows",
]
