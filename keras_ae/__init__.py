"""Autoencoders for Keras 3: one fit leaves one artifact that is proven to run everywhere.

Names load when they are first used, so that `import keras_ae` stays free of TensorFlow; where Keras is already
imported, its layers and models are registered at once, so that `keras.models.load_model` finds them.
"""

import os
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from keras_ae.quiet import greetings_kept_back

__version__ = "0.1.0"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once; what goes wrong is raised, too

_HOMES = {
    "Autoencoder": "keras_ae.models",
    "build": "keras_ae.building",
    "fit": "keras_ae.pipeline",
    "load": "keras_ae.storage",
    "save": "keras_ae.storage",
}

__all__ = ["Autoencoder", "__version__", "build", "fit", "load", "save"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        with nullcontext() if "tensorflow" in sys.modules else greetings_kept_back():
            return getattr(import_module(_HOMES[name]), name)
    try:
        return import_module(f"keras_ae.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"keras_ae.{name}":
            raise
        raise AttributeError(f"module 'keras_ae' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


if sys.modules.get("keras") and sys.modules.get("tensorflow"):
    import_module("keras_ae.models")
