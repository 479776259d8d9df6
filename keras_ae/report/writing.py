"""Writes the report of an artifact: to a file of its own, of all rows, or into the artifact, of some."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import artifact, runtime
from keras_ae.data.source import Source
from keras_ae.data.splits import Splits
from keras_ae.errors import InputError
from keras_ae.evaluation import Evaluation
from keras_ae.judging import Bound, judge
from keras_ae.progress import Progress, silent
from keras_ae.provenance import fitted_splits
from keras_ae.report.page import Page

REPORT = "report.html"
"""Its name in an artifact."""
_COMPARED, _MOST_ROWS, _FEWEST_ROWS, _MOST_NUMBERS = 500, 2_000, 100, 1 << 24
"""Of the report that a fit leaves: samples compared, rows of each split, and numbers in these."""


def write_report(
    path: str | Path,
    out: str | Path,
    source: str | Path | np.ndarray | Source | None = None,
    max_rows: int = 5000,
    seed: int = 0,
    progress: Progress = silent,
    nll: Bound | None = None,
) -> Evaluation:
    """Writes one HTML file without any request to elsewhere; gives back what `evaluate` found.

    Args:
        path: the artifact.
        out: file to write, ending in .html.
        source: what the artifact was trained on; by default what its manifest names.
        max_rows: samples compared with as many rows, at most.
        seed: of samples, halves, draws and intervals; the same seed gives the same page.
        progress: is told in a few words what runs, and its share done.
        nll: from raw rows to a bound on -log p(x), nats; `keras_ae.likelihood.density_bound` gives one.

    Raises:
        InputError: for a source that gives other rows than the artifact was trained on, or a file that can't be
            written.
    """
    out = Path(out)
    if out.suffix != ".html":
        raise InputError(f"A report must end in .html. Received: {out.name}.")
    if not out.parent.is_dir():
        raise InputError(f"No such folder to write to: {out.parent}.")
    model = runtime.load(path)
    splits = fitted_splits(model.path, model.manifest, source)
    judged = judge(model, splits, max_rows, seed, progress, nll)
    progress("drawing", None)
    content = Page(model, judged, model.path.name).content()
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, out)
    except OSError as error:
        raise InputError(f"{out} could not be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # on a file system that can't be written, even where there is none
            partial.unlink(missing_ok=True)
    return judged.evaluation


def add_report(folder: Path, name: str, splits: Splits, progress: Progress, nll: Bound | None = None) -> dict[str, Any]:
    """Writes a smaller report, of some of the rows, into an artifact that is being made, its hash into the manifest.

    Args:
        folder: of the artifact.
        name: that it will have.
        splits: that it was trained on.
        progress: is told in a few words what runs, and its share done.
        nll: from raw rows to a bound on -log p(x), nats.

    Returns:
        The manifest. Where there can be no report, as of rows that are too few to be judged, one of its notes says why.
    """
    model = runtime.load(folder)
    content = artifact.content_of(model.manifest)
    most = min(_MOST_ROWS, max(_FEWEST_ROWS, _MOST_NUMBERS // splits.train[0].size))
    try:
        judged = judge(model, splits, _COMPARED, 0, lambda _, share: progress("judging the model", share), nll, most)
        page = Page(model, judged, name).content()
    except Exception as error:  # such as rows that are too few; no page may cost what was trained
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        content["notes"] = [*content["notes"], f"no report: {kind}{' '.join(str(error).split())}"]
    else:
        (folder / REPORT).write_text(page, encoding="utf-8")
    artifact.write_manifest(folder, content)
    return artifact.read_manifest(folder)
