"""Pictures as text: SVG for curves, bars and points, PNG in data URIs for images; their colours follow the page's."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 320, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 22
SERIES = 10
"""Colours that the page has, `--s0` and on."""


def image(x: np.ndarray, low: float, high: float, alt: str) -> str:
    """An image (height, width) or (height, width, channels) with values from low to high."""
    from PIL import Image

    if x.ndim == 3 and x.shape[2] == 1:
        x = x[..., 0]
    levels = np.clip((x - low) / max(high - low, 1e-12) * 255, 0, 255).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'


def lines(curves: dict[str, tuple[Sequence[float], Sequence[float]]], alt: str, x_label: str = "") -> str:
    """Curves by name, each of x and y; a legend where there is more than one."""
    xs = np.concatenate([np.asarray(x, float) for x, _ in curves.values()])
    ys = np.concatenate([np.asarray(y, float) for _, y in curves.values()])
    axes = _Axes(xs, ys[np.isfinite(ys)])
    drawn = [
        f'<polyline class="s{i % SERIES}" points="{axes.points(x, y)}"/>' for i, (x, y) in enumerate(curves.values())
    ]
    return _svg([*axes.frame(x_label), *drawn], alt) + legend(curves)


def histograms(values: dict[str, np.ndarray], alt: str, x_label: str, mark: float | None = None) -> str:
    """Shares of each group by bins that all of them have in common, and perhaps a vertical mark."""
    every = np.concatenate(list(values.values()))
    top = float(np.quantile(every, 0.995)) if mark is None else max(float(np.quantile(every, 0.995)), mark * 1.05)
    bins = int(np.clip(3 * np.cbrt(min(map(len, values.values()))), 8, 40))
    edges = np.linspace(float(every.min()), max(top, float(every.min()) + 1e-12), bins + 1)
    shares = {name: np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / len(v) for name, v in values.items()}
    axes = _Axes(edges, np.concatenate([[0.0], *shares.values()]))
    drawn = []
    for i, share in enumerate(shares.values()):
        steps_x, steps_y = np.repeat(edges, 2)[1:-1], np.repeat(share, 2)
        drawn.append(f'<polyline class="s{i % SERIES}" points="{axes.points(steps_x, steps_y)}"/>')
    if mark is not None:
        x = axes.x(mark)
        drawn.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    return _svg([*axes.frame(x_label), *drawn], alt) + legend(values)


def points(xy: np.ndarray, group: np.ndarray | None, names: Sequence[str], alt: str) -> str:
    """Points (rows, 2), coloured by the index of their group, grey where it is -1."""
    axes = _Axes(xy[:, 0], xy[:, 1], height=WIDTH)
    drawn = []
    for i, (x, y) in enumerate(xy):
        kind = "none" if group is None or group[i] < 0 else f"s{int(group[i]) % SERIES}"
        drawn.append(f'<circle class="{kind}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="2.2"/>')
    return _svg(drawn, alt, WIDTH) + (legend(names) if group is not None else "")


def overlay(x: np.ndarray, x_hat: np.ndarray | None, low: float, high: float, alt: str) -> str:
    """One observation of numbers side by side, and its reconstruction over it."""
    n = len(x)
    axes = _Axes(np.array([0, max(n - 1, 1)]), np.array([low, high]), 120, 60, bare=True)
    parts = [f'<polyline class="s0" points="{axes.points(range(n), x)}"/>']
    if x_hat is not None:
        parts.append(f'<polyline class="s1" points="{axes.points(range(n), x_hat)}"/>')
    return _svg(parts, alt, 60, 120)


class _Axes:
    def __init__(
        self, x: np.ndarray, y: np.ndarray, width: int = WIDTH, height: int = HEIGHT, bare: bool = False
    ) -> None:
        self.low_x, self.high_x = _range(x)
        self.low_y, self.high_y = _range(y)
        self.width, self.height = width, height
        self.left, self.right, self.top, self.bottom = (2, 2, 2, 2) if bare else (_LEFT, _RIGHT, _TOP, _BOTTOM)

    def x(self, value: float) -> float:
        share = (value - self.low_x) / (self.high_x - self.low_x)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        share = (value - self.low_y) / (self.high_y - self.low_y)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def points(self, xs: Any, ys: Any) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True) if np.isfinite(y))

    def frame(self, x_label: str) -> list[str]:
        """Axis lines, and the ends of both axes in numbers."""
        bottom, right = self.height - self.bottom, self.width - self.right
        text = [
            (self.left - 4, self.top + 8, "end", number(self.high_y)),
            (self.left - 4, bottom, "end", number(self.low_y)),
            (self.left, self.height - 6, "start", number(self.low_x)),
            (right, self.height - 6, "end", number(self.high_x)),
            ((self.left + right) / 2, self.height - 6, "middle", html.escape(x_label)),
        ]
        return [
            f'<path class="axis" d="M{self.left},{self.top}V{bottom}H{right}"/>',
            *(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{label}</text>' for x, y, anchor, label in text),
        ]


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _svg(parts: list[str], alt: str, height: int = HEIGHT, width: int = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(alt)}">' + "".join(parts) + "</svg>"
    )


def legend(names: Any) -> str:
    """Which colour is whose; nothing for a single one."""
    names = list(names)
    if len(names) < 2:
        return ""
    items = [f'<span><i class="s{i % SERIES}"></i>{html.escape(str(name))}</span>' for i, name in enumerate(names)]
    return f'<p class="legend">{"".join(items)}</p>'
