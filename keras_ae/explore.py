"""A page that runs an artifact in the browser: built from `web/`, with the graphs and some rows beside it."""

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from keras_ae import artifact, runtime
from keras_ae.data.preprocessing import share_a_unit
from keras_ae.data.source import Source
from keras_ae.errors import InputError, KerasAEError
from keras_ae.provenance import fitted_splits, known_labels
from keras_ae.views import plane, view

DATA = "data.json"
MOST_POINTS = 2_000
_FORMAT = "keras_ae page"
_MOST_LATENTS = 2_000_000  # numbers of all z that travel
_MOST_BYTES = 4_000_000  # of rows that travel with the page, a byte a number
_MOST_LABELS = 64
_BUILT = Path(__file__).with_name("web")
_GRAPHS = "onnx/float32"
_SAME_HOST = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Page:
    """What was written.

    Attributes:
        folder: of the page.
        points: on its latent map.
        rows: training rows among its files, a byte a number; 0 where there are none.
        note: why the map shows samples of the model and not training rows, or None.
    """

    folder: Path
    points: int
    rows: int
    note: str | None


def write_page(
    path: str | Path, out: str | Path, source: str | Path | np.ndarray | Source | None = None, rows: bool = True
) -> Page:
    """Writes a folder that any static host can serve: the page, the artifact's ONNX graphs and `data.json`.

    `data.json` holds z of up to 2,000 training rows drawn by the artifact's seed, their labels, and as many of the rows
    as fit into 4 MB at a byte a number. Without the rows at hand it holds the model's own samples instead.

    Args:
        path: the artifact.
        out: new, empty, or a page to replace.
        source: what the artifact was trained on; by default what its manifest names, where that is still there.
        rows: whether anything of the training rows may travel with the page.

    Raises:
        InputError: for a given source that is not what the artifact was trained on; for a folder that can't be written;
            for a model of series of different lengths.
        ArtifactError: for a damaged artifact.
        KerasAEError: where the page was not built.
    """
    if not (_BUILT / "index.html").is_file():
        raise KerasAEError("The page must be built once, in a clone of the repository: `make web` (needs npm).")
    if not rows and source is not None:
        raise InputError("A source gives the page its training rows. Received: a source, and no rows wanted.")
    model = runtime.load(path)
    if model.sequences is not None:
        raise InputError("The page shows observations of one size. Received: a model of series of different lengths.")
    x = labels = None
    note, reason = None if rows else "they were left out on request", ""
    if rows:
        try:
            x, labels = _training_rows(model, source)
        except KerasAEError as error:
            if source is not None:
                raise
            note, reason = "they are not at hand", f": {str(error).removesuffix('.')}"
    of = "samples" if x is None else "rows"
    if x is None:
        x = model.samples(_points(model) // 2)
    if model.schema is not None:
        x = model.impute(x)
    data = _describe(model, of, x, labels, note)
    with artifact.replacing(Path(out), _is_page, "a page") as folder:
        shutil.copytree(_BUILT, folder, dirs_exist_ok=True)
        (folder / "model").mkdir()
        for name in model.manifest["files"]:
            if name.startswith(f"{_GRAPHS}/"):
                shutil.copyfile(
                    artifact.check_file(model.path, name, model.manifest), folder / "model" / Path(name).name
                )
        (folder / DATA).write_text(json.dumps(data, allow_nan=False), encoding="utf-8")
    return Page(Path(out), len(x), data["points"]["rows"], note and note + reason)


def _is_page(folder: Path) -> bool:
    return artifact.is_of_format(folder / DATA, _FORMAT)


Labelled = tuple[list[str], list[int]]
"""Names of classes, and the index of each row's, -1 where it is not known."""


def _training_rows(model: runtime.Model, source: Any) -> tuple[np.ndarray, Labelled | None]:
    """Some rows and their labels."""
    splits = fitted_splits(model.path, model.manifest, source)
    random = np.random.default_rng(model.manifest["seed"])
    index = np.sort(random.permutation(len(splits.train))[: _points(model)])
    found = known_labels(splits, model.classes)
    labels = None
    if found is not None and len(found[0]) <= _MOST_LABELS:
        labels = list(found[0]), [int(i) for i in found[1]["train"][index]]
    return splits.train[index], labels


def _points(model: runtime.Model) -> int:
    return min(MOST_POINTS, max(200, _MOST_LATENTS // model.latent_dim))


def _describe(
    model: runtime.Model, of: str, x: np.ndarray, labels: Labelled | None, note: str | None
) -> dict[str, Any]:
    manifest = model.manifest
    z = model.encode(x).reshape(len(x), -1)
    flat = x.reshape(len(x), -1).astype("float32")
    low, high = flat.min(axis=0), flat.max(axis=0)
    kept = 0 if of == "samples" else min(len(flat), _MOST_BYTES // flat.shape[1])
    span = np.where(high > low, high - low, 1)
    levels = np.rint((flat[:kept] - low) / span * 255).astype("uint8")
    quantized = levels / np.float32(255) * span + low
    # What a distance divides each feature by: 1 where features share a unit, as pixels do, else its deviation.
    deviation = flat.std(axis=0, dtype="float64")
    own_units = model.schema is not None or not share_a_unit(deviation[deviation > 0])
    scale = np.where(own_units & (deviation > 0), deviation, 1.0).astype("float32")
    mean, components, share = plane(z)
    names, indices = labels if labels is not None else ([], None)
    return {
        "format": _FORMAT,
        "name": manifest["name"],
        "recipe": manifest.get("recipe"),
        "made_with": f"keras-ae {manifest['versions']['keras_ae']}",
        "source": manifest.get("source"),
        "rmse": artifact.rmse(manifest["metrics"], "test") if "metrics" in manifest else None,
        "shape": list(model.input_shape),
        "dtype": manifest["input"]["dtype"],
        "columns": model.columns,
        "table": (manifest.get("table") or {}).get("columns"),
        "view": view(model.input_shape, model.columns, flat, model.channels),
        "latent_shape": list(model.latent_shape),
        "epsilon_dim": manifest.get("epsilon_dim", model.latent_dim),
        "classes": manifest.get("classes") or [],
        "functions": list(manifest["functions"]),
        "weights": f"{_GRAPHS}/weights.bin" in manifest["files"],
        "features": {
            "low": _base64(low),
            "high": _base64(high),
            "usual_low": _base64(np.quantile(flat, 0.05, axis=0)),
            "usual_high": _base64(np.quantile(flat, 0.95, axis=0)),
            "scale": _base64(scale),
            "in_deviations": own_units,
        },
        "points": {
            "of": of,
            "note": note,
            "count": len(z),
            "z": _base64(z),
            "mean": _base64(mean),
            "deviation": _base64(z.std(axis=0)),
            "components": _base64(components),
            "share": share,
            "label_names": names,
            "labels": indices,
            "rows": kept,
            "levels": base64.b64encode(levels.tobytes()).decode(),
            "usual_distance": _usual_distance(quantized / scale) if kept > 1 else None,
        },
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()


def _usual_distance(scaled: np.ndarray) -> float:
    """Median over rows of the RMS difference to the nearest other row that is not the same."""
    scaled = scaled.astype("float64")
    squares = np.square(scaled).sum(axis=1)
    nearest = []
    for start in range(0, len(scaled), 256):
        block = slice(start, start + 256)
        distances = squares[block, None] + squares - 2 * scaled[block] @ scaled.T
        distances[distances <= 1e-9 * squares.max()] = np.inf  # the row itself and its copies
        nearest.append(distances.min(axis=1))
    found = np.sqrt(np.concatenate(nearest) / scaled.shape[1])
    found = found[np.isfinite(found)]
    return float(np.median(found)) if len(found) else 0.0


class _Handler(SimpleHTTPRequestHandler):
    # Of its own: a browser runs neither modules nor WebAssembly of a wrong type, and the system's table may be wrong.
    extensions_map = {  # noqa: RUF012  (the parent's attribute)
        "": "application/octet-stream",
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".mjs": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
    }

    def send_head(self) -> Any:
        # Another site's name that was made to point here must not read the rows.
        if self.headers.get("Host", "").rsplit(":", 1)[0] not in _SAME_HOST:
            self.send_error(403, "Only for localhost")
            return None
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: str | Path, port: int = 0) -> Iterator[str]:
    """Serves a page on this machine alone while the block runs; gives its address.

    Args:
        folder: of the page.
        port: 0 for one that is free.

    Raises:
        InputError: for a port that is taken.
    """
    try:
        server = ThreadingHTTPServer((_SAME_HOST[0], port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise InputError(f"`port` must be free. Received: {port} ({error.strerror}).") from error
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{_SAME_HOST[0]}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
