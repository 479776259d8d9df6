"""How the runner and its workers talk: a JSON line for each question, a JSON line for each answer.

A worker is a process that keeps one model, trained in one way. It stays alive, so that within one run the repeats
alternate between libraries. The first line it reads is its case; each line after that is `[name, *arguments]`.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np


class Peer(NamedTuple):
    """What a worker does.

    Attributes:
        parameters: trainable numbers of the model, which all ways of a case must share.
        versions: of the libraries.
        train: for a number of epochs.
        forward: held-out rows to mean, log_var and x_hat at z = mean; None where it is not asked for.
        tensor: a NumPy array as the library's own.
        matmul: product of two of those.
    """

    parameters: int
    versions: dict[str, str]
    train: Callable[[int], Any]
    forward: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]] | None
    tensor: Callable[[np.ndarray], Any]
    matmul: Callable[[Any, Any], Any]


def serve(prepare: Callable[[dict[str, Any], np.ndarray], Peer]) -> None:
    """Answers on standard output what is asked on standard input, until that closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not stand between answers
    case = json.loads(sys.stdin.readline())
    imported = _peak_megabytes()
    x, held_out = np.load(case["rows"]), np.load(case["held_out"])
    started = time.perf_counter()
    peer = prepare(case, x)
    ready = {"seconds": time.perf_counter() - started, "parameters": peer.parameters, "versions": peer.versions}
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        started = time.perf_counter()
        if question == "train":
            peer.train(*arguments)
            answer = {"seconds": time.perf_counter() - started, "megabytes": _peak_megabytes() - imported}
        elif question == "validate":
            answer = {"loss": negative_elbo(held_out, *peer.forward(held_out))}
        else:
            answer = {"seconds": product_seconds(peer.tensor, peer.matmul, *arguments)}
        print(json.dumps(answer), file=answers)


def negative_elbo(x: np.ndarray, mean: np.ndarray, log_var: np.ndarray, x_hat: np.ndarray) -> float:
    """Nats a row, x_hat decoded from the posterior mean, with one noise level at its optimum over all rows and features
    (Rybkin, Daniilidis and Levine 2021, section 3)."""
    features = x[0].size
    mse = np.mean(np.square(x.reshape(x_hat.shape) - x_hat, dtype="float64"))
    kl = 0.5 * (np.exp(log_var) + np.square(mean) - 1 - log_var).sum(axis=1).mean()
    return float(features / 2 * (np.log(mse) + 1 + np.log(2 * np.pi)) + kl)


def product_seconds(
    tensor: Callable[[np.ndarray], Any],
    matmul: Callable[[Any, Any], Any],
    shapes: Sequence[tuple[int, int, int]],
    steps: int,
) -> float:
    """Seconds of `steps` times the products (m, k) x (k, n) of random float32 matrices, for (m, k, n) in shapes."""
    rng = np.random.default_rng(0)
    pairs = [
        (tensor(rng.random((m, k), dtype="float32")), tensor(rng.random((k, n), dtype="float32"))) for m, k, n in shapes
    ]
    for _ in range(3):
        for a, b in pairs:
            matmul(a, b)
    started = time.perf_counter()
    for _ in range(steps):
        for a, b in pairs:
            matmul(a, b)
    return time.perf_counter() - started


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


class Worker:
    """A worker's process, from the runner's side; what its libraries print goes to a log file."""

    def __init__(self, python: str, script: str, case: dict[str, Any], log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [python, str(Path(__file__).parent / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            bufsize=1,
        )
        self.ready = self._answer(json.dumps(case))

    def ask(self, question: str, *arguments: Any) -> Any:
        return self._answer(json.dumps([question, *arguments]))

    def _answer(self, line: str) -> Any:
        questions, answers = self.process.stdin, self.process.stdout
        assert questions
        assert answers
        print(line, file=questions)
        answer = answers.readline()
        if not answer:
            raise RuntimeError(f"A worker must answer. It ended instead; the reason is in {self.log}.")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.communicate()  # closes its standard input, which ends it
