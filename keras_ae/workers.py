"""Worker processes of this machine that train together: started, watched, none left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from keras_ae.errors import InputError, WorkerLost

CLUSTER = "TF_CONFIG"
"""The environment variable that says who the workers are, and which of them a process is."""
MINUTES = 10.0
"""That workers wait for each other to come up."""
_ANSWER = 2.0  # seconds for an address to answer
_PATIENCE = 20.0  # seconds for the others to stop by themselves, once one has died
_LOOK = 0.1


def run_workers(command: Sequence[str], count: int) -> int:
    """Runs a command as so many workers of one cluster, each told by TF_CONFIG which it is; signals go to all.

    The first has the terminal, the others are silent.

    Returns:
        The exit code of the first, or of the first one that failed.

    Raises:
        WorkerLost: where one was killed; the others have stopped.
    """
    addresses = _free_addresses(count)
    with tempfile.TemporaryFile() as said, contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    env={**os.environ, CLUSTER: json.dumps(_task(addresses, index))},
                    stdout=None if index == 0 else subprocess.DEVNULL,
                    stderr=None if index == 0 else said,
                    process_group=None if index == 0 else 0,  # Ctrl-C goes to each of them once
                )
            )
            for index in range(count)
        ]
        stack.callback(_kill, workers)
        with _forwarding(workers):
            failed = _wait(workers)
        if failed is None:
            return 0
        code = workers[failed].returncode
        if code < 0:
            raise WorkerLost(
                f"Worker {failed + 1} of {count} was killed ({signal.Signals(-code).name}); the others have stopped. "
                "--resume goes on from the last checkpoint, with as many workers as you like."
            )
        if failed > 0:
            said.seek(0)
            os.write(2, said.read()[-2000:])
        return int(code)


def wait_for_workers(minutes: float = MINUTES) -> None:
    """Until every worker of the cluster in TF_CONFIG has come up. Each listens at its own address meanwhile, and knocks
    at those of the others.

    Raises:
        InputError: for a cluster that makes no sense, or an address of this worker that it can't listen at.
        WorkerLost: where one has not come up after so many minutes.
    """
    try:
        config = json.loads(os.environ[CLUSTER])
        cluster, task = config["cluster"], config["task"]
        own = cluster[task["type"]][task["index"]]
        addresses = [_split(address) for job in cluster.values() for address in job]
        port = _split(own)[1]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"TF_CONFIG must be JSON of a `cluster`, its workers as HOST:PORT, and the `task` of this one. "
            f"Received: {os.environ.get(CLUSTER)}."
        ) from error
    limit = time.monotonic() + 60 * minutes
    silent = [address for address in addresses if address != _split(own)]
    try:
        # What knocks is let in without being looked at. TensorFlow listens here as soon as this does no more.
        server = socket.create_server(("", port), backlog=max(128, len(addresses)))
    except OSError as error:
        raise InputError(
            f"TF_CONFIG gives this worker {own}, which must be free. Received: {error.strerror}."
        ) from error
    with server:
        while silent := [address for address in silent if not _answers(address)]:
            if time.monotonic() > limit:
                raise WorkerLost(
                    f"All {len(addresses)} workers of TF_CONFIG must come up within {minutes:g} minutes "
                    f"(--worker-minutes). Received no answer from {', '.join(f'{host}:{at}' for host, at in silent)}."
                )
            time.sleep(_LOOK)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=_ANSWER):
            return True
    except OSError:
        return False


def _wait(workers: Sequence[Any]) -> int | None:
    """Until all have ended; which failed first, if any, one that was killed before one that told why it stopped. Once
    one has ended so, the others have some seconds.
    """
    failed: int | None = None
    ends = float("inf")
    while None in (found := [worker.poll() for worker in workers]):
        codes = {i: code for i, code in enumerate(found) if code}
        if codes and ends == float("inf"):
            ends = time.monotonic() + _PATIENCE
        if time.monotonic() > ends:
            failed = failed if failed is not None else _first(codes)
            _kill(workers)
        time.sleep(_LOOK)
    return failed if failed is not None else _first({i: worker.returncode for i, worker in enumerate(workers)})


def _first(codes: Mapping[int, int]) -> int | None:
    return min((i for i, code in codes.items() if code), key=lambda i: (codes[i] > 0, i), default=None)


def _kill(workers: Sequence[Any]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.kill()


@contextlib.contextmanager
def _forwarding(workers: Sequence[Any]) -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        for i, worker in enumerate(workers):
            if worker.poll() is None and (i > 0 or number == signal.SIGTERM):
                worker.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _task(addresses: Sequence[str], index: int) -> dict[str, Any]:
    return {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}


def _free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{held.getsockname()[1]}" for held in sockets]
