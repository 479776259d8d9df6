"""An artifact as MLflow's pyfunc flavor loads it: rows in, rows out, by ONNX Runtime. Neither Keras nor MLflow here."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import runtime
from keras_ae.signatures import DEFAULT


class Artifact:
    """What `mlflow.pyfunc.load_model` wraps.

    Args:
        path: folder of the artifact.
    """

    def __init__(self, path: str | Path) -> None:
        self.model = runtime.load(path)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """A function on rows, a DataFrame where the model was trained on a table, else an array (rows, ...).

        Args:
            model_input: the rows.
            params: `function`, by name: `encode`, `decode`, `reconstruct` (the default), `score`, `classify`, ...

        Returns:
            An array (rows, ...); a DataFrame of rows of a table, and of `score` and its `p_value`.
        """
        import pandas as pd

        function = (params or {}).get("function", DEFAULT)
        self.model.check(function)
        rows = model_input
        if function == "decode" or self.model.columns is None:
            rows = np.asarray(model_input)
        found = getattr(self.model, function)(rows)
        return pd.DataFrame(found) if isinstance(found, dict) else found


def example_of(model: runtime.Model, x: np.ndarray) -> Any:
    """Raw rows as `Artifact.predict` takes them."""
    if model.columns is None:
        return x
    import pandas as pd

    return pd.DataFrame(model.table(x))


def _load_pyfunc(path: str) -> Artifact:
    """What MLflow calls."""
    return Artifact(path)
