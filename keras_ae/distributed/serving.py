"""Artifacts over HTTP on Ray Serve: the API of `keras-ae serve`, with Ray's batching, replicas and autoscaling."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_ae.distributed.cluster import ray_of
from keras_ae.errors import InputError, importing


def serve_app(
    sources: str | Path | Sequence[str | Path],
    replicas: int | tuple[int, int] = 1,
    requests: int = 16,
    batch_calls: int = 64,
    batch_seconds: float = 0.002,
    precision: str = "float32",
    keep: int = 2,
    limits: Any = None,
    deployment: str = "keras-ae",
) -> Any:
    """An application for `ray.serve.run`, or for `serve run MODULE:NAME`.

    Every path is that of `keras-ae serve`, and so is each answer. A replica looks for new versions by itself. What is
    at `/metrics` is of the replica that answers.

    Args:
        sources: as of `keras_ae.serving.Models`: DIR or NAME=DIR, one or several, where every machine sees them.
        replicas: processes that serve; or fewest and most of them, between which Ray Serve chooses by load.
        requests: at once in a replica that Ray Serve aims at, before it starts another.
        batch_calls: small calls that are computed together, at most.
        batch_seconds: that the first of them waits for others.
        precision: of the ONNX graphs.
        keep: newest versions of a model that stay loaded.
        limits: `keras_ae.serving.Limits` of one replica.
        deployment: its name in Ray Serve.

    Raises:
        InputError: for numbers of replicas that make no sense.
        MissingExtra: where `keras-ae[ray]` or `keras-ae[serve]` is not installed.
    """
    serve = ray_of("serve")
    with importing("The server", "serve"):
        from keras_ae.serving import Limits, Models
        from keras_ae.serving.app import Application
        from keras_ae.serving.batching import together
        from keras_ae.serving.calls import Call, Outputs

    fewest, most = (replicas, replicas) if isinstance(replicas, int) else replicas
    if not 1 <= fewest <= most:
        raise InputError(f"`replicas` must be at least 1, and fewest at most most. Received: {replicas}.")
    limits = limits or Limits()
    folders = [_absolute(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    Models(folders, keep, precision)  # what can't be served is told here, not in the log of a replica

    @serve.ingress()
    class Artifacts:
        """One replica."""

        async def run(self, call: Call) -> Outputs:
            """The outputs of a small call, computed with others."""
            outputs = await self.run_together((call,))
            if isinstance(outputs, BaseException):
                raise outputs
            return outputs

        @serve.batch(max_batch_size=batch_calls, batch_wait_timeout_s=batch_seconds)
        async def run_together(self, calls: list[tuple[Call]]) -> list[Outputs | BaseException]:
            """What `run` waits for."""
            return together([call for (call,) in calls])

        def __serve_build_asgi_app__(self) -> Application:
            return Application(Models(folders, keep, precision), limits, batches=self)

    scaling: dict[str, Any] = {"num_replicas": fewest}
    if fewest != most:
        scaling = {
            "autoscaling_config": {"min_replicas": fewest, "max_replicas": most, "target_ongoing_requests": requests}
        }
    return serve.deployment(name=deployment, max_ongoing_requests=limits.requests, **scaling)(Artifacts).bind()


def _absolute(source: str | Path) -> str:
    """NAME=DIR or DIR with the folder as replicas find it, and the name that the folder had."""
    name, _, folder = str(source).rpartition("=")
    path = os.path.realpath(folder)
    return f"{name or Path(folder).resolve().name}={path}"
