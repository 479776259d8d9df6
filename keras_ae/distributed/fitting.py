"""`fit` on Ray Train: workers on several machines, checkpoints in Ray's storage, workers that are replaced."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_ae.distributed.cluster import cause, cluster, ray_of
from keras_ae.errors import InputError
from keras_ae.runs import Run

NAME = "keras_ae"


def ray_fit(
    source: Any,
    out: str | Path,
    workers: int = 2,
    storage: str | Path | None = None,
    name: str | None = None,
    failures: int = 3,
    gpus: bool = False,
    resources: Mapping[str, float] | None = None,
    minutes: float = 0.5,
    **options: Any,
) -> Path:
    """`keras_ae.fit` by workers of a Ray cluster, through Ray Train's TensorflowTrainer.

    Each worker takes its share of every batch (`batch_size` is that of all), and the first writes the artifact. Every
    checkpoint goes to Ray's storage. Where a worker dies, Ray starts all of them again from the newest. So does the
    same call made again with the same `storage` and `name`, with as many workers as you like.

    Args:
        source: as of `keras_ae.fit`; a path must lie where every machine sees it.
        out: folder of the artifact, likewise.
        workers: processes that train.
        storage: folder or URI where Ray keeps the run; by default `ray_results` beside the artifact.
        name: of the run in it; by default that of the artifact's folder.
        failures: times that Ray starts the workers again; -1 for any.
        gpus: whether each worker has one GPU.
        resources: of Ray that each worker holds; by default a processor, or a GPU.
        minutes: from one checkpoint to the next, at the end of an epoch.
        **options: of `keras_ae.fit`, but for `resume` and `strategy`.

    Returns:
        The folder of the artifact.

    Raises:
        InputError: as `keras_ae.fit`.
        ray.train.v2.api.exceptions.TrainingFailedError: where the workers failed more often than that.
        MissingExtra: where `keras-ae[ray]` or `keras-ae[train]` is not installed.
    """
    taken = {"resume", "strategy", "callbacks"} & set(options)
    if taken:
        raise InputError(f"`{taken.pop()}` is what `ray_fit` decides. Received: a value for it.")
    if workers < 1:
        raise InputError(f"`workers` must be at least 1. Received: {workers}.")
    train, tensorflow = ray_of("train"), ray_of("train.tensorflow")
    out = Path(out).resolve()
    asked = {
        "source": str(Path(source).resolve()) if isinstance(source, str | Path) and Path(source).exists() else source,
        "out": str(out),
        "minutes": minutes,
        "options": options,
    }
    with cluster():
        trainer = tensorflow.TensorflowTrainer(
            _train,
            train_loop_config=asked,
            scaling_config=train.ScalingConfig(
                num_workers=workers, use_gpu=gpus, resources_per_worker=None if resources is None else dict(resources)
            ),
            run_config=train.RunConfig(
                name=name or out.name,
                storage_path=str(storage or out.with_name("ray_results")),
                failure_config=train.FailureConfig(max_failures=failures),
                checkpoint_config=train.CheckpointConfig(num_to_keep=3),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray's errors have no common base; each holds that of a worker as text
            raise cause(error) from error
    return out


def _train(asked: dict[str, Any]) -> None:
    """What each worker runs."""
    import tensorflow as tf
    from ray import train

    import keras_ae

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    first = train.get_context().get_world_rank() == 0
    folder = Path(tempfile.mkdtemp(prefix=NAME))
    try:
        found = train.get_checkpoint()
        if found is not None:
            with found.as_directory() as held:
                shutil.copytree(held, folder, dirs_exist_ok=True)
        run = _Reported(folder, minutes=asked["minutes"], first=first)
        keras_ae.fit(asked["source"], asked["out"], resume=run, strategy=strategy, **asked["options"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Reported(Run):
    """A run whose every checkpoint is reported to Ray, which keeps it."""

    def __init__(self, folder: Path, minutes: float, first: bool) -> None:
        super().__init__(folder, minutes=minutes, keep=1)
        self.first = first

    def save(self, epoch: int, step: int, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        from ray import train

        super().save(epoch, step, arrays, values)
        newest = {name: series[-1] for name, series in values["history"].items()}
        checkpoint = train.Checkpoint.from_directory(self.folder) if self.first else None
        train.report({**newest, "epoch": epoch}, checkpoint=checkpoint)
