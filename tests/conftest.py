"""One small trained artifact, shared by the whole session."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

from pathlib import Path
from typing import Any

import pytest


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
