"""The rows that an artifact was trained on, found again and proven the same by the hashes in its manifest."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data import load_source, split
from keras_ae.data.labels import UNKNOWN, Classes
from keras_ae.data.schema import Schema
from keras_ae.data.source import Source
from keras_ae.data.splits import Splits
from keras_ae.data.windows import Windowing
from keras_ae.errors import InputError


def fitted_splits(
    path: str | Path, manifest: dict[str, Any], source: str | Path | np.ndarray | Source | None = None
) -> Splits:
    """The splits that `fit` made.

    Args:
        path: of the artifact, for messages.
        manifest: of the artifact.
        source: what it was trained on; by default what the manifest names.

    Raises:
        InputError: for a source that gives other rows than the artifact was trained on, or an artifact that keeps no
            hashes of them.
    """
    if "splits" not in manifest:
        raise InputError(f"{path} must come from `fit`, which keeps the hashes of its splits. Received: one of `save`.")
    try:
        data = source_of(manifest, source)
    except InputError as error:
        if source is not None:
            raise
        raise InputError(f"{error} What {path} was trained on must be named, as it keeps no folder.") from error
    splits = split(data, manifest["seed"])
    for name, rows in splits.parts().items():
        if hashlib.sha256(rows.tobytes()).hexdigest() != manifest["splits"][name]["sha256"]:
            raise InputError(
                f"The source must be what {path} was trained on, {manifest['source']!r}, unchanged. "
                f"Received: {data.name!r}, whose {name} rows differ."
            )
    return splits


def source_of(manifest: dict[str, Any], source: Any = None) -> Source:
    """The source that a manifest names, or another one, with its labels, columns and kinds as they were in `fit`."""
    source = manifest["source"] if source is None else source
    if isinstance(source, Source):
        return source
    if manifest.get("window"):
        return load_source(source, windowing=Windowing.of(manifest["window"]))
    schema = Schema.of(manifest["table"]) if manifest.get("table") else None
    return load_source(
        source,
        manifest.get("labels_column"),
        schema,
        () if schema is not None else manifest.get("dropped", ()),
        manifest.get("rows_skipped", False),
        stream=bool(manifest.get("stream")) or None,
    )


def known_labels(splits: Splits, classes: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, np.ndarray]] | None:
    """Names of the classes, and of each split the index of each row's, -1 where it is missing; None where there are no
    labels, or they make no classes.

    Args:
        splits: of a source.
        classes: those that the artifact learned; without any they are taken from the labels.
    """
    if splits.labels is None:
        return None
    try:
        known = Classes(classes) if classes else Classes.of(np.concatenate(list(splits.labels.values())))
        return known.names, {name: known.index(y) for name, y in splits.labels.items()}
    except InputError:  # such as measurements; what needs classes says that it is not there
        return None


def complete_labels(splits: Splits, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels of training and of test rows as indices; None where one is missing."""
    found = known_labels(splits, classes)
    if found is None:
        return None
    train, test = found[1]["train"], found[1]["test"]
    return None if min(train.min(), test.min()) == UNKNOWN else (train, test)
