"""A folder for TF Serving: numbered versions that warm up, and how the official image serves them."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_ae import artifact, protos, runtime
from keras_ae.errors import InputError
from keras_ae.signatures import DEFAULT

_SAVED_MODEL = "saved_model/1/"
_WARM_UP = "assets.extra/tf_serving_warmup_requests"
_WARM_UP_ROWS = (1, 64)
_WARM_UP_BYTES = 1 << 20  # of one record, at most, where one row is no larger
_MOST_ROWS = 1024  # of a request, where TF Serving batches
_NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?", re.IGNORECASE)
_NUMBER = re.compile(r"[1-9]\d*")


def export_tf_serving(path: Path, out: Path, name: str | None = None, keep: int | None = None) -> dict[str, Any]:
    """Adds the SavedModel of an artifact to a folder for TF Serving, as a new version beside those there.

    The version appears whole: TF Serving, which may watch the folder meanwhile, sees all of it or nothing. Its
    signatures are the artifact's, compared with Keras when that was made, and `serving_default`, which is
    `reconstruct`. `models.config` lists every model of the folder. `batching.config`, `compose.yaml` and
    `kubernetes.yaml` are written where they are not there, so that they may be edited.

    Args:
        path: the artifact.
        out: new folder, or one of an earlier export.
        name: of the model; by default the artifact's folder's.
        keep: newest versions of this model that stay; by default all.

    Returns:
        `out`, `model`, `version`, and the versions that were `removed`.

    Raises:
        ArtifactError: for a damaged artifact.
        InputError: for a name that can't be a model's, or a folder that can't be written.
    """
    name = name or path.resolve().name
    if not _NAME.fullmatch(name):
        raise InputError(f"A model's name must be of letters, digits, `_`, `.` and `-`. Received: {name!r}.")
    if keep is not None and keep < 1:
        raise InputError(f"`keep` must be at least 1. Received: {keep}.")
    model = runtime.load(path)
    number = max(_versions(out / name), default=0) + 1
    with artifact.replacing(out / name / str(number)) as folder:
        for file in model.manifest["files"]:
            if file.startswith(_SAVED_MODEL):
                target = folder / file.removeprefix(_SAVED_MODEL)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(artifact.check_file(path, file, model.manifest), target)
        _add_default(folder / "saved_model.pb")
        (folder / _WARM_UP).parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / _WARM_UP)) as writer:
            for request in _warm_up(model, name):
                log = protos.message("PredictionLog")()
                log.predict_log.request.CopyFrom(request)
                writer.write(log.SerializeToString())
    removed = sorted(_versions(out / name), reverse=True)[keep:] if keep else []
    for old in removed:
        # Gone under its number at once: what is half removed is no version.
        shutil.rmtree((out / name / str(old)).rename(out / name / f".{old}.removed"))
    _write_config(out, model.manifest["versions"]["tensorflow"])
    return {"out": str(out), "model": name, "version": number, "removed": removed}


def _versions(folder: Path) -> list[int]:
    return [int(sub.name) for sub in folder.iterdir() if _NUMBER.fullmatch(sub.name)] if folder.is_dir() else []


def _add_default(file: Path) -> None:
    """The signature of requests that name none, beside the others."""
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved.meta_graphs:
        graph.signature_def["serving_default"].CopyFrom(graph.signature_def[DEFAULT])
    file.write_bytes(saved.SerializeToString(deterministic=True))


def _warm_up(model: runtime.Model, name: str) -> Iterator[Any]:
    """Requests of one row and of several for every signature, on the model's own samples."""
    for function in (*model.signatures, "serving_default"):
        known = DEFAULT if function == "serving_default" else function
        taken = model.signatures[known]["inputs"]
        size = sum(np.dtype(of["dtype"]).itemsize * int(np.prod(of["shape"])) for of in taken.values())
        for rows in sorted({min(rows, max(1, _WARM_UP_BYTES // size)) for rows in _WARM_UP_ROWS}):
            inputs = {next(iter(taken)): model.example(known, rows)}
            if "label" in taken:
                inputs["label"] = np.full(rows, -1, taken["label"]["dtype"])
            yield protos.predict_request(name, None, function, inputs)


def _write_config(out: Path, version: str) -> None:
    models = sorted(sub.name for sub in out.iterdir() if _versions(sub))
    entries = "".join(
        f'  config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}\n' for name in models
    )
    temporary = out / ".models.config.partial"
    temporary.write_text(f"model_config_list {{\n{entries}}}\n")
    os.replace(temporary, out / "models.config")
    image = f"tensorflow/serving:{version}"
    for name, text in (
        ("batching.config", _BATCHING),
        ("compose.yaml", _COMPOSE.format(image=image, flags=_flags(6))),
        ("kubernetes.yaml", _KUBERNETES.format(image=image, flags=_flags(12), model=models[0])),
    ):
        if not (out / name).exists():
            (out / name).write_text(text)


def _flags(indent: int) -> str:
    flags = (
        "--model_config_file=/models/models.config",
        "--model_config_file_poll_wait_seconds=30",
        "--enable_batching=true",
        "--batching_parameters_file=/models/batching.config",
    )
    return "\n".join(f"{' ' * indent}- {flag}" for flag in flags)


# What waits while a batch is computed goes into the next one; nothing waits to fill a batch.
_BATCHING = f"""max_batch_size {{ value: {_MOST_ROWS} }}
batch_timeout_micros {{ value: 0 }}
max_enqueued_batches {{ value: 256 }}
"""
_COMPOSE = """services:
  serving:
    image: {image}
    command:
{flags}
    ports:
      - "127.0.0.1:8500:8500"  # gRPC
      - "127.0.0.1:8501:8501"  # REST
    volumes:
      - .:/models:ro
    restart: unless-stopped
"""
_KUBERNETES = """# This folder is on the volume that the claim `models` names.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: 2
  selector:
    matchLabels:
      app: serving
  template:
    metadata:
      labels:
        app: serving
    spec:
      containers:
        - name: serving
          image: {image}
          args:
{flags}
          ports:
            - name: grpc
              containerPort: 8500
            - name: rest
              containerPort: 8501
          readinessProbe:
            httpGet:
              path: /v1/models/{model}
              port: rest
          volumeMounts:
            - name: models
              mountPath: /models
              readOnly: true
      volumes:
        - name: models
          persistentVolumeClaim:
            claimName: models
            readOnly: true
---
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  selector:
    app: serving
  ports:
    - name: grpc
      port: 8500
      targetPort: grpc
    - name: rest
      port: 8501
      targetPort: rest
"""
