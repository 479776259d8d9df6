"""Tables of thousands of columns: what is made of them does not grow with the square of their number."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ae.data import load_source
from keras_ae.data.columns import fit_columns, layout
from keras_ae.layers import ColumnDraws, ColumnScaling
from keras_ae.layers.columns import Filled

COLUMNS = 1_500


@pytest.fixture(scope="module")
def schema():
    """Numbers, every second of which may be missing, a category, a flag and a date."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, COLUMNS))
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:, ::2] = np.nan_to_num(x[:, ::2])
    table = {f"gene {i}": column for i, column in enumerate(x.T)}
    table["kind"] = np.array(list("abc"))[rng.integers(0, 3, 40)]
    table["ill"] = rng.random(40) < 0.5
    table["when"] = np.datetime64("2025-01-01") + rng.integers(0, 90, 40)
    rows = load_source(table).rows
    return fit_columns(rows.schema, rows.x)


def bytes_of(function, *shapes):
    """Of a graph with its constants."""
    specs = [tf.TensorSpec((None, *shape), "float32") for shape in shapes]
    return tf.function(function).get_concrete_function(*specs).graph.as_graph_def().ByteSize()


def test_what_features_add_is_told_by_column(schema):
    where = layout(schema)
    f = np.random.default_rng(1).normal(size=(5, where.size)).astype("float32")
    expected = np.zeros((len(schema.columns), 5))
    np.add.at(expected, np.array(where.column), f.T)
    layer = ColumnScaling(schema.describe())
    np.testing.assert_allclose(layer.by_raw(f, None), expected.T, rtol=1e-5, atol=1e-5)
    assert bytes_of(lambda f: layer.by_raw(f, None), (where.size,)) < 1 << 20  # features by columns are 13 MB


def test_cells_are_hidden_with_their_flags(schema):
    where = layout(schema)
    filled = Filled(where.hides, rate=0.5, seed=0)
    x = np.ones((8, where.size), "float32")
    flags = [hidden[-1] for hidden in where.hides]
    x[:, flags] = 0.0
    seen = np.array(filled(x, training=True))
    for *cell, flag in where.hides:
        np.testing.assert_array_equal(seen[:, cell], 1.0 - seen[:, [flag]])
    assert 0.45 < seen[:, flags].mean() < 0.55
    others = np.setdiff1d(np.arange(where.size), np.concatenate(where.hides))
    np.testing.assert_array_equal(seen[:, others], 1.0)
    np.testing.assert_array_equal(filled(x), x)
    assert bytes_of(lambda x: filled(x, training=True), (where.size,)) < 1 << 20


def test_a_cell_that_is_drawn_as_missing_is_that_of_its_column(schema):
    where = layout(schema)
    draws = ColumnDraws(schema.describe(), draws=False)
    draws.build()
    draws.offset.assign(np.where(np.arange(len(where.hides)) % 3 == 0, 30.0, -30.0))
    draws.slope.assign(np.zeros(len(where.hides)))
    f = np.zeros((2, where.size), "float32")
    x = np.array(draws(f, f, None, np.zeros((2, draws.numbers), "float32")))
    gone = [where.column[hidden[-1]] for hidden in where.hides[::3]]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(x[0])), gone)
    shapes = [(where.size,), (where.size,), (draws.numbers,)]
    assert bytes_of(lambda mean, params, noise: draws(mean, params, None, noise), *shapes) < 1 << 20
