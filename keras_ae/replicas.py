"""Training on several devices or machines by `tf.distribute`: what the loss and Keras's `fit` need there."""

import contextlib
import faulthandler
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer

from keras_ae.errors import WorkerLost
from keras_ae.workers import wait_for_workers

_OF_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)


def global_mean(values: Any) -> Any:
    """Mean of a tensor over all its elements and those of the other replicas, whose gradient reaches all of them.

    For a term that is no mean over rows, such as a root of one: the mean of the replicas' roots is another number.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tf.reduce_mean(values)
    parts = [tf.reduce_sum(values), tf.cast(tf.size(values), values.dtype)]
    total, count = replica.all_reduce(tf.distribute.ReduceOp.SUM, parts)
    return total / count


def seed_of_replica(seed: Any) -> Any:
    """A seed (2,), int32, for each replica its own: they hold seed generators of one state."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return seed
    return seed + tf.stack([replica.replica_id_in_sync_group, 0])


class LossesOfReplica(threading.local):
    """What a layer holds the terms of `add_loss` in, in place of Keras's list.

    The replicas of one process take turns, in a thread each, wherever they reduce something. In one list, the terms of
    a replica that waits would be cleared or counted by the next.
    """

    def __init__(self) -> None:
        self.terms: list[Any] = []

    def extend(self, terms: Iterable[Any]) -> None:
        self.terms.extend(terms)

    def clear(self) -> None:
        self.terms.clear()

    def __getitem__(self, index: slice) -> list[Any]:
        return self.terms[index]


def is_of_workers(strategy: Any) -> bool:
    """Whether a strategy is one of several processes, which run the same program."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def strategy_of_cluster(minutes: float) -> Any:
    """The strategy of the cluster that TF_CONFIG names, when all its workers are up.

    Args:
        minutes: to wait for them.

    Raises:
        InputError, WorkerLost: as `keras_ae.workers.wait_for_workers`.
    """
    wait_for_workers(minutes)
    # TensorFlow waits for ever for one that has gone again by now, and no other thread of Python runs meanwhile.
    faulthandler.dump_traceback_later(max(60 * minutes, 1.0), exit=True)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        faulthandler.cancel_dump_traceback_later()


def writes(strategy: Any) -> bool:
    """Whether this process is the one of a strategy that writes what all of them trained."""
    resolver = getattr(strategy, "cluster_resolver", None)
    return not is_of_workers(strategy) or resolver is None or not resolver.task_id


def agreement() -> Callable[[Sequence[bool]], list[bool]]:
    """What makes of questions, some of which this worker of the current strategy answers with yes, those that any of
    the workers does; all of them must ask at once. Without other workers the answers are its own.
    """
    strategy = tf.distribute.get_strategy()
    if not is_of_workers(strategy):
        return list

    @tf.function(autograph=False)
    def counted(mine: Any) -> Any:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, (mine,)), axis=None)

    return lambda mine: [bool(count) for count in counted(tf.cast(list(mine), tf.float32)).numpy()]


@contextlib.contextmanager
def losing_workers() -> Iterator[None]:
    """What TensorFlow raises in one worker when another has died becomes WorkerLost."""
    try:
        yield
    except _OF_LOST as error:
        if not is_of_workers(tf.distribute.get_strategy()):
            raise
        raise WorkerLost(
            "Another worker has died or can't be reached, and no worker goes on alone; the checkpoints are whole. "
            "--resume goes on from there, with as many workers as you like."
        ) from error


@contextlib.contextmanager
def scalars_of_workers() -> Iterator[None]:
    """Lets Keras's `fit` and `evaluate` run under a strategy of several workers.

    Keras takes the mean over axis 0 of each metric there, a scalar, and fails (tensorflow#72388). In this block it
    takes the worker's own; what History shows is read from the metrics' variables, which are summed over workers.
    """
    original = trainer.reduce_per_replica

    def reduce(values: Any, strategy: Any, reduction: str) -> Any:
        return original(values, strategy, "first" if reduction in ("auto", "mean") else reduction)

    if is_of_workers(tf.distribute.get_strategy()):
        trainer.reduce_per_replica = reduce
    try:
        yield
    finally:
        trainer.reduce_per_replica = original
