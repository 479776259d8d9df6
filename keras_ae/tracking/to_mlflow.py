"""MLflow: a run with its parameters and metrics, and the artifact as a pyfunc model that loads without TensorFlow."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc

from keras_ae import __version__, runtime
from keras_ae.data import Splits
from keras_ae.errors import InputError
from keras_ae.signatures import DEFAULT
from keras_ae.tracking.pyfunc import example_of
from keras_ae.tracking.tracker import Tracker

_LONGEST = 500
"""Characters of a parameter, as MLflow has it."""
_EXAMPLE_ROWS = 5


class MlflowTracker(Tracker):
    """Logs to the run that is active, or else to one of its own; MLFLOW_EXPERIMENT_NAME says in which experiment.

    Args:
        uri: of the tracking server or store; by default what MLflow has, MLFLOW_TRACKING_URI.
    """

    def __init__(self, uri: str = "") -> None:
        super().__init__()
        self.uri = uri

    def started(self, asked: Mapping[str, Any], resumed: bool) -> None:
        if self.uri:
            mlflow.set_tracking_uri(self.uri)
        self._is_own = mlflow.active_run() is None
        try:
            self._run = mlflow.start_run() if self._is_own else mlflow.active_run()
        except mlflow.exceptions.MlflowException as error:
            raise InputError(
                "`track` must name a store that MLflow can use here, mlflow=URI: a server, http://..., or with all of "
                "`pip install mlflow` a database, sqlite:///mlflow.db. "
                f"Received: {mlflow.get_tracking_uri()} ({str(error).split('. ')[0]})."
            ) from error
        mlflow.log_params({name: _text(value) for name, value in asked.items() if value is not None})
        mlflow.set_tags({"keras_ae": __version__, "resumed": str(resumed)})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        mlflow.log_metrics({name: float(value) for name, value in (logs or {}).items()}, step=epoch + 1)

    def finished(self, model: Any, splits: Splits, manifest: Mapping[str, Any], artifact: Path | None) -> None:
        mlflow.log_metrics({name: float(value) for name, value in manifest["metrics"].items()})
        if artifact is not None:
            example = example_of(runtime.load(artifact), splits.test[:_EXAMPLE_ROWS])
            log_artifact(artifact, example)
        self._end("FINISHED")

    def failed(self) -> None:
        if hasattr(self, "_run"):
            self._end("FAILED")

    def _end(self, status: str) -> None:
        if self._is_own:
            mlflow.end_run(status)


def log_artifact(artifact: str | Path, example: Any, name: str = "model") -> Any:
    """Logs an artifact as a pyfunc model of the active run: `mlflow.pyfunc.load_model(...)` runs it on ONNX Runtime.

    Args:
        artifact: its folder.
        example: some rows, as the model will be given them, for its signature.
        name: of the model in the run.

    Returns:
        What `mlflow.pyfunc.log_model` does.
    """
    from keras_ae.tracking.pyfunc import Artifact

    output = Artifact(artifact).predict(example)
    signature = mlflow.models.infer_signature(example, output, params={"function": DEFAULT})
    return mlflow.pyfunc.log_model(
        name=name,
        loader_module="keras_ae.tracking.pyfunc",
        data_path=os.path.realpath(artifact),
        signature=signature,
        pip_requirements=[f"keras-ae=={__version__}", "pandas"],
    )


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:_LONGEST]


tracker = MlflowTracker
