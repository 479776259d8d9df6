"""Neighbours among training rows: which are nearest, and how dense it is around them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.float32 import Float32Layer
from keras_ae.layers.latents import flat

_LIMIT = 1e9
"""Coordinates are cut here, far beyond any data: their squares stay finite in float32."""

_DITHER = 0.05
"""Of the median step between values of a coordinate."""


class Fitted(Float32Layer):
    """A layer whose weights come from NumPy arrays, of sizes that its configuration holds."""

    def hold(self, **shapes: tuple[int, ...]) -> None:
        """Makes float32 weights of these shapes, which are zero until `put`, or a file, fills them."""
        for name, shape in shapes.items():
            weight = self.add_weight(
                shape=shape, initializer="zeros", dtype="float32", trainable=False, name=f"held_{name}"
            )
            setattr(self, name, weight)

    def put(self, **arrays: Any) -> None:
        """Sets held weights by name."""
        for name, array in arrays.items():
            getattr(self, name).assign(np.asarray(array, "float32"))


@keras.saving.register_keras_serializable(package="keras_ae")
class Neighbours(Fitted):
    """The nearest of a bank of training rows, by Euclidean distance.

    Called on (batch, n); returns the indices (batch, k) of k neighbours and the squared differences (batch, k, n) to
    them, which are computed from the rows themselves, so that no digits are lost where rows are near.

    Args:
        rows: in the bank.
        coordinates: n.
        which: neighbours that are returned, 1 for the nearest, in rising order; the last row stands for those that a
            bank of few does not have.
    """

    def __init__(self, rows: int, coordinates: int, which: Sequence[int], **kwargs: Any) -> None:
        if rows < 1 or not which or min(which) < 1 or list(which) != sorted(which):
            raise ValueError(
                "`which` must be neighbours from 1 on, in rising order, among a row or more. "
                f"Received: {list(which)} among {rows}."
            )
        super().__init__(**kwargs)
        self.rows, self.coordinates, self.which = int(rows), int(coordinates), [int(k) for k in which]

    def build(self, input_shape: Any = None) -> None:
        self.hold(bank=(self.rows, self.coordinates), compared=(self.coordinates + 1, self.rows))

    def fit(self, bank: np.ndarray) -> None:
        """Sets the bank (rows, n)."""
        bank = bank.astype("float32").astype("float64")
        # |x|^2 - |x - b|^2 = 2 x b - |b|^2 for all b in one product, which is most of the work.
        self.put(bank=bank, compared=np.concatenate([2.0 * bank.T, -np.square(bank).sum(axis=1)[None]]))

    def typical(self, x: np.ndarray) -> np.ndarray:
        """Median distance of rows (batch, n) to each of the neighbours; the mean where most are none."""
        squares = [np.asarray(self(x[i : i + 1024].astype("float32"))[1]).sum(axis=-1) for i in range(0, len(x), 1024)]
        distances = np.sqrt(np.concatenate(squares))
        median = np.median(distances, axis=0)
        return np.where(median > 0, median, distances.mean(axis=0))

    def call(self, x: Any) -> tuple[Any, Any]:
        nearness = ops.matmul(ops.concatenate([x, ops.ones_like(x[:, :1])], axis=-1), self.compared)
        places = [min(k, self.rows) - 1 for k in self.which]
        _, index = ops.top_k(nearness, k=places[-1] + 1)
        if places != list(range(len(places))):
            index = ops.take(index, np.array(places, "int32"), axis=1)
        return index, ops.square(ops.expand_dims(x, 1) - ops.take(self.bank, index, axis=0))

    def compute_output_spec(self, x: Any) -> Any:
        return (
            keras.KerasTensor((x.shape[0], len(self.which)), dtype="int32"),
            keras.KerasTensor((x.shape[0], len(self.which), self.coordinates), dtype="float32"),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rows": self.rows, "coordinates": self.coordinates, "which": self.which}


@keras.saving.register_keras_serializable(package="keras_ae")
class LocalOutlierFactor(Fitted):
    """How much sparser it is around a row than around its neighbours: about 1 inside the data, more outside.

    The local outlier factor of Breunig et al. (2000, "LOF: identifying density-based local outliers", definitions 5 to
    7), but that the 16 neighbours are weighted by a kernel whose bandwidth is the distance of the last, instead of all
    counting alike: no value jumps then where two rows are equally far, and runtimes that round differently agree. Where
    many are, as among counts and codes, some of them would still be chosen by the last digit; so a coordinate of which
    the bank has values again is dithered by a little of the steps between them. It is taken twice, as its authors
    advise a range of sizes (section 7.2), since what is sparse among few need not be among many: by the biweight
    kernel (1 - (d / d_16)^2)^2 and the reachability of the fourth neighbour, and by Epanechnikov's 1 - (d / d_16)^2
    and that of the sixteenth.

    Called on (batch, n); returns both factors (batch, 2) and the mean squared difference from the neighbours in each
    coordinate (batch, n), by the second kernel.

    Args:
        rows: in the bank.
        coordinates: n.
    """

    K = 16
    KERNELS = ((4, 2), (16, 1))
    """The neighbour whose distance is the reach, and the power of the kernel."""

    def __init__(self, rows: int, coordinates: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows, self.coordinates = int(rows), int(coordinates)
        self.k = max(1, min(self.K, rows // 2))
        self.neighbours = Neighbours(rows, coordinates, range(1, self.k + 1))

    def build(self, input_shape: Any = None) -> None:
        self.neighbours.build()
        self.hold(**{part: (len(self.KERNELS), self.rows) for part in ("reach", "density")})

    def fit(self, bank: np.ndarray) -> None:
        """Sets the bank (rows, n), and the density around each of its rows among the others."""
        from sklearn.neighbors import NearestNeighbors

        bank = _dithered(bank)
        self.neighbours.fit(bank)
        distance, index = NearestNeighbors(n_neighbors=min(self.k + 1, len(bank))).fit(bank).kneighbors(bank)
        distance, index = distance[:, 1:], index[:, 1:]
        reaches, densities = [], []
        for near, power in self.KERNELS:
            reach = distance[:, :near][:, -1]
            positive = reach[reach > 0]
            # Rows that occur k times have a distance of 0, and would have a density without limit.
            reach = np.maximum(reach, np.quantile(positive, 0.01) if len(positive) else 1e-6)
            weight = _weights(np.square(distance), power, np)
            reaches.append(reach)
            densities.append(1.0 / (weight * np.maximum(distance, reach[index])).sum(axis=1))
        self.put(reach=np.stack(reaches), density=np.stack(densities))

    def call(self, x: Any) -> tuple[Any, Any]:
        index, squares = self.neighbours(x)
        squared = ops.sum(squares, axis=-1)
        weights = [_weights(squared, power) for _, power in self.KERNELS]
        factors = []
        for i, weight in enumerate(weights):
            reach = ops.maximum(ops.sqrt(squared), ops.take(self.reach[i], index, axis=0))
            density = ops.sum(weight * ops.take(self.density[i], index, axis=0), axis=-1)
            factors.append(ops.sum(weight * reach, axis=-1) * density)
        return ops.stack(factors, axis=-1), ops.sum(ops.expand_dims(weights[-1], -1) * squares, axis=1)

    def compute_output_spec(self, x: Any) -> Any:
        factors = keras.KerasTensor((x.shape[0], len(self.KERNELS)), dtype="float32")
        return factors, keras.KerasTensor(x.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rows": self.rows, "coordinates": self.coordinates}


def _dithered(bank: np.ndarray) -> np.ndarray:
    """Rows (rows, n) of which no two are equal, nor equally far from a third for being equal in coordinates."""
    steps = np.zeros(bank.shape[1])
    for i, coordinate in enumerate(bank.T):
        values = np.unique(coordinate)
        if 1 < len(values) < len(bank):
            steps[i] = np.median(np.diff(values))
    return np.asarray(bank + _DITHER * steps * np.random.default_rng(0).uniform(-1.0, 1.0, bank.shape), "float32")


def _weights(squared: Any, power: int, xp: Any = ops) -> Any:
    """Of neighbours at squared distances (batch, k), by a power of Epanechnikov's kernel as wide as the farthest is
    far, which keeps a little; they sum to one."""
    kernel = (1.0 + 1e-6 - squared / xp.maximum(xp.max(squared, axis=-1, keepdims=True), 1e-24)) ** power
    return kernel / xp.sum(kernel, axis=-1, keepdims=True)


def share_of(squares: Any) -> Any:
    """Non-negative (batch, n) as shares that sum to one; equal ones where all are 0."""
    floor = np.float32(1e-30)
    return (squares + floor) / ops.sum(squares + floor, axis=-1, keepdims=True)


def limited(x: Any) -> Any:
    """(batch, ...) as (batch, n), in float32 and within bounds whose squares are finite."""
    return ops.clip(flat(x), -_LIMIT, _LIMIT)
