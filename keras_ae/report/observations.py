"""How an observation is shown: an image, a signal's channels, a curve, or a profile of a table's columns."""

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
_CHANNELS = 6
"""Of a signal that are shown, at most."""

_Curves = list[tuple[np.ndarray, float, float]]
"""Numbers side by side, and the ends of their scale."""


class Observations:
    """Pictures of raw observations of one model, all on one scale.

    Args:
        model: of the artifact.
        train: raw training rows, which give the scale.
    """

    def __init__(self, model: runtime.Model, train: np.ndarray) -> None:
        self.model = model
        self._some = train[:_LOOKED_AT].reshape(min(len(train), _LOOKED_AT), -1).astype("float32")
        self._view = view(model.input_shape, model.columns, self._some, model.channels)
        self._channels: list[str] = self._view.get("names", [])
        self.is_image = self._view["kind"] == "image"

    @property
    def legend(self) -> str:
        """How to read a picture, where that is not plain."""
        if self._channels:
            return f"Channels one below the other: {self._listed(self._channels[:_CHANNELS])}."
        if self.model.columns is None:
            return ""
        names = self._listed(self.model.columns)
        return f"Each is a profile of {names}, from left to right, within {_REACH:.0f} deviations of the mean."

    def tile(self, x: np.ndarray, alt: str) -> str:
        """One observation."""
        if self.is_image:
            return pictures.image(np.asarray(x, "float32").reshape(self._image_shape), *self._ends, alt)
        return _stack(
            [pictures.overlay(np.clip(a, low, high), None, low, high, alt) for a, low, high in self._curves(x)]
        )

    def pair(self, x: np.ndarray, x_hat: np.ndarray, alt: str) -> str:
        """An observation and its reconstruction, of images the size of the error too."""
        if self.is_image:
            a, b = (np.asarray(part, "float32").reshape(self._image_shape) for part in (x, x_hat))
            low, high = self._ends
            parts = [
                pictures.image(a, low, high, alt),
                pictures.image(b, low, high, "reconstruction"),
                pictures.image(np.abs(a - b), 0, high - low, "error"),
            ]
            return _stack(parts)
        both = zip(self._curves(x), self._curves(x_hat), strict=True)
        return _stack(
            [
                pictures.overlay(np.clip(a, low, high), np.clip(b, low, high), low, high, alt)
                for (a, low, high), (b, _, _) in both
            ]
        )

    def cells(self, flat: np.ndarray) -> list[str]:
        """The numbers of a flattened observation as people write them: of a table its categories and dates."""
        if self.model.schema is None:
            return [pictures.number(float(value)) for value in flat]
        cells = [column[0] for column in self.model.table(flat[None]).values()]
        known = [None if c != c else pictures.number(float(c)) if isinstance(c, np.floating) else c for c in cells]
        return ["missing" if cell is None else str(cell) for cell in known]

    def column(self, i: int) -> str:
        """The name of the i-th number of a flattened observation: its column, pixel, channel and row, or index."""
        if self.model.columns is not None:
            return self.model.columns[i]
        shape = self._image_shape if self.is_image else self.model.input_shape
        place = [int(part) for part in np.unravel_index(i, shape)]
        if self._channels:
            return f"{self._channels[place[1]]}, row {place[0]}"
        if self.is_image:
            channel = f", channel {place[2]}" if len(place) > 2 else ""
            return f"row {place[0]}, column {place[1]}{channel}"
        return f"feature {i}" if len(place) == 1 else f"feature {tuple(place)}"

    def _curves(self, x: np.ndarray) -> _Curves:
        """Raw numbers of a vector or of each channel; of a table, where units differ, in deviations."""
        x = np.asarray(x, "float32")
        if self.model.columns is not None:
            deviation = self._some.std(axis=0)
            scaled = (x.reshape(-1) - self._some.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
            return [(scaled, -_REACH, _REACH)]
        if self._channels:
            return [(x[:, i], *ends) for i, ends in enumerate(self._channel_ends)]
        return [(x.reshape(-1), *self._ends)]

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return _ends(self._some)

    @cached_property
    def _channel_ends(self) -> list[tuple[float, float]]:
        some = self._some.reshape(len(self._some), *self.model.input_shape)
        return [_ends(some[..., i]) for i in range(min(some.shape[-1], _CHANNELS))]

    @staticmethod
    def _listed(names: Any) -> str:
        return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")

    @property
    def _image_shape(self) -> tuple[int, ...]:
        shown = self._view
        shape: tuple[int, ...] = (shown["height"], shown["width"])
        return shape if shown["channels"] == 1 else (*shape, shown["channels"])


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(np.nanquantile(values, 0.001)), float(np.nanquantile(values, 0.999))


def _stack(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f'<div class="stack">{"".join(parts)}</div>'
