"""How fast an artifact runs: latency and throughput of every function, precision and provider, taken in turns."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import artifact, runtime
from keras_ae.errors import InputError, importing
from keras_ae.processor import cpu_name
from keras_ae.progress import Progress, silent

BATCHES = (1, 64, 1024)
SECONDS = 0.5
_ROUNDS = 11
_FEWEST_ROUNDS = 3
_ELSEWHERE = ("AzureExecutionProvider",)  # calls a service, and runs no graph of ours
_CHART_ENDINGS = (".svg", ".png", ".pdf")

Call = Callable[[], object]


def alternate(calls: Mapping[str, Call], seconds: float = SECONDS, rounds: int = _ROUNDS) -> dict[str, np.ndarray]:
    """Seconds of each call, (rounds, calls) a name: the names take turns, so that a slow moment of the machine meets
    all of them.

    Args:
        calls: what to time, by name; each is called twice before.
        seconds: to spend on each name. What is slow has one call a round, and fewer rounds, but at least three.
        rounds: of turns.
    """
    times = {}
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        call()
        once = max(time.perf_counter() - started, 1e-7)
        turns = max(_FEWEST_ROUNDS, min(rounds, int(seconds / once)))
        times[name] = np.empty((turns, max(1, int(seconds / turns / once))))
    for i in range(max(len(array) for array in times.values())):
        for name, call in calls.items():
            for j in range(times[name].shape[1] if i < len(times[name]) else 0):
                started = time.perf_counter()
                call()
                times[name][i, j] = time.perf_counter() - started
    return times


def ratio(times: np.ndarray, base: np.ndarray) -> float:
    """How many times as long as `base`: the median over rounds of the quotient of their median calls."""
    turns = min(len(times), len(base))
    return float(np.median(np.median(times[:turns], axis=1) / np.median(base[:turns], axis=1)))


@dataclass(frozen=True)
class Speed:
    """How fast one function runs in one way.

    Attributes:
        function: `encode`, ...
        runs: precision and provider, such as `int8 CPU`, or what else runs it.
        p50: seconds that one row takes, median.
        p99: seconds that 99 of 100 calls with one row take at most.
        rows_per_second: by batch size, from the median call.
    """

    function: str
    runs: str
    p50: float
    p99: float
    rows_per_second: dict[int, float]


Way = Callable[[str, np.ndarray], Call]
"""From a function and its input to a call that runs it."""


def measure(
    path: str | Path,
    others: Mapping[str, Way] | None = None,
    seconds: float = SECONDS,
    progress: Progress = silent,
) -> list[Speed]:
    """Times every function of an artifact on its own samples, in every precision that it holds and on every ONNX
    Runtime provider that starts here.

    Args:
        path: the artifact.
        others: what else to time in turns with them, by name.
        seconds: for each figure.
        progress: is told which function runs, and the share done.
    """
    ways = {**_ways(Path(path)), **(others or {})}
    model = runtime.load(path)
    functions = list(model.manifest["functions"])
    found = []
    for i, function in enumerate(functions):
        times = {}
        one_row = model.example(function, 1)
        here = {name: way for name, way in ways.items() if _runs(way(function, one_row))}
        for j, batch in enumerate(BATCHES):
            progress(f"{function}, batch {batch}", (i * len(BATCHES) + j) / (len(functions) * len(BATCHES)))
            array = model.example(function, batch)
            times[batch] = alternate({name: way(function, array) for name, way in here.items()}, seconds)
        for name in here:
            one = times[BATCHES[0]][name]
            rows = {batch: batch / float(np.median(times[batch][name])) for batch in BATCHES}
            found.append(Speed(function, name, float(np.median(one)), float(np.quantile(one, 0.99)), rows))
    return found


def _ways(path: Path) -> dict[str, Way]:
    import onnxruntime

    ways: dict[str, Way] = {}
    for precision in artifact.precisions(artifact.read_manifest(path)):
        for provider in onnxruntime.get_available_providers():
            if provider in _ELSEWHERE:
                continue
            name = f"{precision} {provider.removesuffix('ExecutionProvider')}"
            ways[name] = _way(runtime.load(path, precision, [provider]))
    return ways


def _runs(call: Call) -> bool:
    """Whether a provider that is compiled in has its device and libraries here, and computes what the CPU does."""
    try:
        call()
    except InputError:
        return False
    return True


def _way(model: runtime.Model) -> Way:
    return lambda function, array: lambda: model.run(function, array)


def keras_way(model: Any) -> Way:
    """Keras's `predict` on an Autoencoder's functions."""
    functions = model.functions()

    def timed(function: str, array: np.ndarray) -> Call:
        first, *others = (tensor.name for tensor in functions[function].inputs)
        arrays = {first: array, **{label: np.full(len(array), -1, "int32") for label in others}}
        return lambda: functions[function].predict(arrays, batch_size=len(array), verbose=0)

    return timed


def machine() -> str:
    """The processor and its cores, and the version of ONNX Runtime."""
    import onnxruntime

    return f"{os.cpu_count()} x {cpu_name()}, ONNX Runtime {onnxruntime.__version__}"


def check_chart(path: Path) -> None:
    """Raises, before any work is done, where a chart could not be drawn."""
    if path.suffix not in _CHART_ENDINGS:
        raise InputError(f"A chart must end in {', '.join(_CHART_ENDINGS)}. Received: {path.name}.")
    if not path.parent.is_dir():
        raise InputError(f"No such folder to write to: {path.parent}.")
    with importing("A chart", "train"):
        import matplotlib  # noqa: F401


def chart(speeds: Iterable[Speed], path: Path, title: str) -> None:
    """Draws latency at batch 1 and throughput at the largest batch beside each other; on logarithmic axes where the
    figures differ twentyfold.

    Raises:
        InputError: for an ending other than .svg, .png or .pdf, or a file that can't be written.
        MissingExtra: without matplotlib.
    """
    check_chart(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    speeds = list(speeds)
    functions = list(dict.fromkeys(speed.function for speed in speeds))
    runs = list(dict.fromkeys(speed.runs for speed in speeds))
    figure = Figure(figsize=(11, 1.2 + 0.22 * len(speeds)), layout="constrained")
    figure.suptitle(title)
    panels: dict[str, tuple[str, Callable[[Speed], float]]] = {
        "microseconds for one row (median)": ("{:,.1f}", lambda speed: 1e6 * speed.p50),
        f"rows per second in batches of {BATCHES[-1]:,}": ("{:,.0f}", lambda s: s.rows_per_second[BATCHES[-1]]),
    }
    for axes, (label, (form, value)) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        for i, name in enumerate(runs):
            values = {speed.function: value(speed) for speed in speeds if speed.runs == name}
            places = [functions.index(function) + 0.8 * (i + 0.5) / len(runs) - 0.4 for function in values]
            bars = axes.barh(places, list(values.values()), 0.8 / len(runs), label=name)
            axes.bar_label(bars, fmt=form, padding=2, fontsize=7)
        axes.set(xlabel=label, yticks=range(len(functions)), yticklabels=functions)
        axes.margins(x=0.2)
        least, most = (pick(value(speed) for speed in speeds) for pick in (min, max))
        if most > 20 * least:
            axes.set(xscale="log", xlim=(least / 3, most * 5))
        else:
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()  # shared
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(runs), frameon=False)
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}") from error
