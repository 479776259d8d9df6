"""One small trained artifact, shared by the whole session."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_not_collected_again() -> Iterator[None]:
    """TensorFlow's graphs are millions of objects, and every full collection would visit them all."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def digits_fitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `keras_ae.fit` gives back for a small network on digits; its artifact is on disk."""
    import keras_ae

    out = tmp_path_factory.mktemp("artifacts") / "digits"
    return keras_ae.fit("digits", out=out, epochs=8, latent_dim=8, hidden=[64])


@pytest.fixture(scope="session")
def digits_artifact(digits_fitted: Any) -> Path:
    """The folder of that artifact; not to be changed: copy it first."""
    return digits_fitted.artifact
