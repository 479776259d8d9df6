"""How an observation is shown: an image, a curve, or a profile of a table's columns."""

from functools import cached_property
from typing import Any

import numpy as np

from keras_ae import runtime
from keras_ae.report import pictures
from keras_ae.views import view

_LOOKED_AT = 2_000
_NAMED = 20
_REACH = 3.0
"""Deviations that a profile shows to either side."""


class Observations:
    """Pictures of raw observations of one model, all on one scale.

    Args:
        model: of the artifact.
        train: raw training rows, which give the scale.
    """

    def __init__(self, model: runtime.Model, train: np.ndarray) -> None:
        self.model = model
        self._some = train[:_LOOKED_AT].reshape(min(len(train), _LOOKED_AT), -1).astype("float32")
        self._view = view(model.input_shape, model.columns, self._some)
        self.is_image = bool(self._view["kind"] == "image")

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return float(np.quantile(self._some, 0.001)), float(np.quantile(self._some, 0.999))

    @property
    def legend(self) -> str:
        """How to read a picture, where that is not plain."""
        if self.model.columns is None:
            return ""
        names = ", ".join(self.model.columns[:_NAMED]) + (", ..." if len(self.model.columns) > _NAMED else "")
        return f"Each is a profile of {names}, from left to right, within {_REACH:.0f} deviations of the mean."

    def tile(self, x: np.ndarray, alt: str) -> str:
        """One observation."""
        flat, low, high = self._scaled(x)
        if not self.is_image:
            return pictures.overlay(np.clip(flat, low, high), None, low, high, alt)
        return pictures.image(flat.reshape(self._image_shape), low, high, alt)

    def pair(self, x: np.ndarray, x_hat: np.ndarray, alt: str) -> str:
        """An observation and its reconstruction, of images the size of the error too."""
        (a, low, high), (b, _, _) = self._scaled(x), self._scaled(x_hat)
        if not self.is_image:
            return pictures.overlay(np.clip(a, low, high), np.clip(b, low, high), low, high, alt)
        shape = self._image_shape
        parts = [
            pictures.image(a.reshape(shape), low, high, alt),
            pictures.image(b.reshape(shape), low, high, "reconstruction"),
            pictures.image(np.abs(a - b).reshape(shape), 0, high - low, "error"),
        ]
        return f'<div class="stack">{"".join(parts)}</div>'

    def cells(self, flat: np.ndarray) -> list[str]:
        """The numbers of a flattened observation as people write them: of a table its categories and dates."""
        if self.model.schema is None:
            return [pictures.number(float(value)) for value in flat]
        cells = [column[0] for column in self.model.table(flat[None]).values()]
        return [pictures.number(float(c)) if isinstance(c, np.floating) else str(c) for c in cells]

    def column(self, i: int) -> str:
        """The name of the i-th number of a flattened observation: its column, pixel, channel and row, or index."""
        if self.model.columns is not None:
            return self.model.columns[i]
        shape = self._image_shape if self.is_image else self.model.input_shape
        place = [int(part) for part in np.unravel_index(i, shape)]
        if self.model.windowing is not None:
            return f"{self.model.windowing.channels[place[1]]}, row {place[0]}"
        if self.is_image:
            channel = f", channel {place[2]}" if len(place) > 2 else ""
            return f"row {place[0]}, column {place[1]}{channel}"
        return f"feature {i}" if len(place) == 1 else f"feature {tuple(place)}"

    def _scaled(self, x: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Numbers of one observation on one scale, and its ends: raw, or where units differ in deviations."""
        flat = np.asarray(x, "float32").reshape(-1)
        if self.model.columns is not None:
            deviation = self._some.std(axis=0)
            return (flat - self._some.mean(axis=0)) / np.where(deviation > 0, deviation, 1), -_REACH, _REACH
        return flat, *self._ends

    @property
    def _image_shape(self) -> tuple[int, ...]:
        shown: dict[str, Any] = self._view
        shape: tuple[int, ...] = (shown["height"], shown["width"])
        return shape if shown["channels"] == 1 else (*shape, shown["channels"])
