"""The Ray cluster that is used: the one that runs, or one of this machine's processes."""

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

from keras_ae import errors
from keras_ae.errors import ServiceError, importing
from keras_ae.quiet import greetings_kept_back


def ray_of(part: str) -> Any:
    """A library of Ray by name: `data`, `serve`, `train` or `tune`.

    Raises:
        MissingExtra: where it is not installed.
    """
    import importlib

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers without a GPU see what the driver sees
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints trials that fail where it is to be silent
    with importing(f"Ray ({part})", "ray"):
        return importlib.import_module(f"ray.{part}")


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """Ray, connected: to the cluster that this process uses already, or that RAY_ADDRESS names; otherwise one
    is started on this machine, and ended after the block.

    Raises:
        ServiceError: for one that does not start, or does not answer.
    """
    ray_of("data")
    import ray

    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what C++ says is in the log files of the session
    try:
        with greetings_kept_back():
            ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray's own is no narrower: its processes have 30 s to come up
        raise ServiceError(
            "Ray must start here within 30 s, or answer where RAY_ADDRESS says. On a busy machine try again, or name a "
            f"cluster that runs. Received: {error}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def quiet(library: str) -> Iterator[None]:
    """What a library of Ray, `ray.data`, says goes to its log files alone; errors are raised, too."""
    loggers = [logging.getLogger(name) for name in (library, "ray")]
    handlers = [handler for logger in loggers for handler in logger.handlers if handler.get_name() != "file"]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.data\.")
            yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def cause(error: Exception) -> Exception:
    """The error of this package that Ray's is about, or Ray's: only as text does it come from a worker."""
    found = re.search(r"^keras_ae\.errors\.(\w+): (.*)$", str(error), re.MULTILINE)
    return error if found is None else getattr(errors, found[1])(found[2])
