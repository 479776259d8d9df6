"""int8 and float16: ONNX graphs made from the float32 ones, and kept only where measurement finds them worth it.

Calibration rows decide. A precision is refused where it worsens the RMSE of `reconstruct` by more than 2 %, where any
function is slower than in float32, one row or 64 at a time, or where its files are no smaller. What was measured stays
in the manifest either way.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from keras_ae.export.parity import TOLERANCE, Arrays, Runner, reference_rows
from keras_ae.export.quantization import METHODS, converted
from keras_ae.export.to_onnx import FOLDER, runner, save_models

from keras_ae import bench
from keras_ae.errors import ExportError, InputError, KerasAEError
from keras_ae.interface import standard_normal
from keras_ae.layers import ConformalPValue, SequenceScaling
from keras_ae.models import Autoencoder
from keras_ae.sessions import open_session, session_options

MOST_WORSE = 0.02
"""What a precision may add to the RMSE, relative."""
SLOWER = 1.05
"""Times as long that count as slower; repeats on one machine can't tell less apart."""
BATCHES = (1, 64)
_SECONDS = 0.15  # for each latency
_SAMPLES = 64
_SLACK = 1.25  # from machine to machine, whose int8 instructions saturate and round in different places
_SAME_SCORE = 1e-3  # relative, of one row on two machines


def export_precision(
    source: Path, folder: Path, precision: str, model: Autoencoder, rows: np.ndarray, single_file: bool = False
) -> dict[str, Any]:
    """Writes `onnx/<precision>/` below the folder, or nothing where it is refused.

    Args:
        source: folder that holds `onnx/float32`.
        folder: to write to; may be the same.
        precision: a key of `METHODS`.
        model: what was exported.
        rows: raw rows that were not trained on; where the model is calibrated, the rows that calibrated it. Their
            scores through the new graph replace those behind its p-values.
        single_file: put each function's weights into its own file.

    Returns:
        Figures for the manifest. `method`: the fastest that passes, or None with the `reason`. `rows`: their number.
        `float32`, and `tried` by method: `rmse` in raw units, `rmse_scaled`, `bytes`, `seconds` a call by function and
        batch size; in `tried` also `rmse_change` relative to float32, the worse of raw and scaled units,
        `time_ratio` to float32, and `differences` from Keras, RMS relative to the output's, by function.

    Raises:
        InputError: for an unknown precision, or rows that did not calibrate the model.
    """
    if precision not in METHODS:
        raise InputError(f"`precision` must be one of {', '.join(METHODS)}. Received: {precision!r}.")
    _check_rows(model, rows)
    originals = {name: onnx.load(source / FOLDER / f"{name}.onnx") for name in model.functions()}
    inputs = _inputs(model, rows)
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"float32": Path(temporary) / "float32"}
        save_models(originals, folders["float32"], single_file)
        figures: dict[str, dict[str, Any]] = {"float32": _errors(folders["float32"], model, rows)}
        for method, convert in METHODS[precision].items():
            try:
                made = {name: converted(convert, original, inputs[name]) for name, original in originals.items()}
                _recalibrate(made["score"], model, rows)
                save_models(made, Path(temporary) / method, single_file)
                figures[method] = _errors(Path(temporary) / method, model, rows)
                folders[method] = Path(temporary) / method
            except KerasAEError as error:
                figures[method] = {"reason": str(error)}
            except Exception as error:  # what quantizers and ONNX Runtime raise has no common base
                figures[method] = {"reason": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
        for method, seconds in _seconds(folders, inputs).items():
            figures[method] |= seconds
        float32 = figures.pop("float32")
        del float32["differences"], float32["time_ratio"]
        for method in set(folders) & set(figures):
            units = ("rmse", "rmse_scaled")
            change = max(figures[method][unit] / max(float32[unit], 1e-30) - 1 for unit in units)
            size = figures[method]["bytes"] / float32["bytes"]
            reason = judge(change, size, figures[method]["time_ratio"])
            figures[method] |= {"rmse_change": change, "reason": reason}
        chosen = _fastest(figures)
        if chosen is not None:
            shutil.copytree(folders[chosen], folder / "onnx" / precision)
    reason = None if chosen else "; ".join(f"{name}: {tried['reason']}" for name, tried in figures.items())
    return {"method": chosen, "reason": reason, "rows": len(rows), "float32": float32, "tried": figures}


def judge(rmse_change: float, size_ratio: float, time_ratio: dict[str, dict[str, float]]) -> str | None:
    """Why a precision is refused, or None; all relative to float32."""
    if size_ratio >= 1:
        return "its files are no smaller than those of float32"
    if not rmse_change <= MOST_WORSE:
        return f"RMSE is {100 * rmse_change:.3g} % above that of float32, and may be {100 * MOST_WORSE:g} %"
    slowest, function, batch = max((r, name, batch) for name, by in time_ratio.items() for batch, r in by.items())
    if slowest > SLOWER:
        return f"{function} takes {slowest:.2f} times as long as in float32 at batch {batch}"
    return None


def verify_precision(folder: Path, precision: str, model: Autoencoder, figures: dict[str, Any]) -> dict[str, float]:
    """Checks the graphs of a precision, runs them in ONNX Runtime and compares them with Keras on the model's samples.

    Returns:
        Differences by function, RMS relative to the output's.

    Raises:
        ExportError: where one is larger than when the artifact was made, by more than machines differ.
    """
    place = folder / "onnx" / precision
    for name in model.functions():
        onnx.checker.check_model(str(place / f"{name}.onnx"), full_check=True)
    differences = _differences(_runner(place), model)
    for name, recorded in figures["tried"][figures["method"]]["differences"].items():
        most = _SLACK * recorded + TOLERANCE
        if not differences[name] <= most:
            raise ExportError(
                f"ONNX {precision} {name}: must differ from Keras by {most:.3g} relative at most, as when it was made. "
                f"Received: {differences[name]:.3g}."
            )
    return differences


def check_of_one_size(of_sequences: bool) -> None:
    """Raises InputError for a model of series: a precision is measured on rows whose features are all there."""
    if of_sequences:
        raise InputError("int8 and float16 are of rows of one size. Received: series of different lengths.")


def _check_rows(model: Autoencoder, rows: np.ndarray) -> None:
    check_of_one_size(isinstance(model.scaling, SequenceScaling))
    if rows.shape[1:] != model.raw_shape:
        raise InputError(f"Rows must have shape {(None, *model.raw_shape)}. Received: {rows.shape}.")
    known = model.p_value.calibration_scores
    scores = np.sort(model.score(rows)["score"][: len(known)]) if len(known) else known
    if len(scores) != len(known) or not np.allclose(scores, known, rtol=_SAME_SCORE, atol=1e-6):
        raise InputError(
            "A precision is calibrated on the rows that calibrated the model, so that its p-values stay right. "
            f"Received: {len(rows)} rows with other scores."
        )


def _inputs(model: Autoencoder, rows: np.ndarray) -> dict[str, Arrays]:
    noise = standard_normal(len(rows), model.epsilon_dim, seed=0)
    label = np.arange(len(rows)) % (len(model.classes) + 1) - 1
    sources = {"x": rows, "z": model.encode(rows), "epsilon": noise, "label": label}
    return {
        name: {tensor.name: sources[tensor.name].astype(tensor.dtype) for tensor in function.inputs}
        for name, function in model.functions().items()
    }


def _recalibrate(score: Any, model: Autoencoder, rows: np.ndarray) -> None:
    """Puts the scores that the graph itself gives the calibration rows behind its p-values.

    A conformal p-value is right only where the score is the same function for both.
    """
    import onnxruntime

    known = np.asarray(model.p_value.scores)
    if not np.isfinite(known).any():
        return
    session = onnxruntime.InferenceSession(
        score.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    key = session.get_inputs()[0].name
    count = int(np.isfinite(known).sum())
    scores = np.concatenate([session.run(["score"], {key: rows[i : i + 1]})[0] for i in range(count)])
    renewed = np.concatenate([known[: len(known) - count], np.sort(scores)]).astype("float32")
    for old, new in zip(ConformalPValue.constants(known), ConformalPValue.constants(renewed), strict=True):
        held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in score.graph.initializer}
        names = [name for name, array in held.items() if np.array_equal(array.ravel(), old)]
        if not names:
            raise ExportError("The scores behind the p-values must stand in the graph of `score` as constants.")
        for tensor in score.graph.initializer:
            if tensor.name in names:
                tensor.CopyFrom(onnx.numpy_helper.from_array(new.reshape(held[tensor.name].shape), tensor.name))


def _runner(folder: Path) -> Runner:
    # One thread: what several give depends on what else the machine does.
    return runner({path.stem: open_session(path, threads=1) for path in folder.glob("*.onnx")})


def _errors(folder: Path, model: Autoencoder, rows: np.ndarray) -> dict[str, Any]:
    run = _runner(folder)
    x_hat = np.concatenate([run("reconstruct", {"x": batch})["x_hat"][:-1] for batch in _beside_an_odd_row(rows)])
    differences = _differences(run, model)
    if not np.isfinite([x_hat.sum(), *differences.values()]).all():
        raise ExportError("Outputs must be finite")
    scaled = model.scaling if model.scaling is not None else lambda x: x
    return {
        "rmse": _rms(x_hat.astype("float64") - rows),
        "rmse_scaled": _rms(np.asarray(scaled(x_hat), "float64") - np.asarray(scaled(rows))),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "differences": differences,
    }


def _beside_an_odd_row(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Batches of at most 64, the last row of each ten times another: in use, a batch holds what comes."""
    odd = 10.0 * rows[:1].astype("float64")
    if rows.dtype.kind in "iu":
        odd = np.minimum(odd, np.iinfo(rows.dtype).max)
    for i in range(0, len(rows), max(BATCHES) - 1):
        yield np.concatenate([rows[i : i + max(BATCHES) - 1], odd.astype(rows.dtype)])


def _differences(run: Runner, model: Autoencoder) -> dict[str, float]:
    samples = _inputs(model, reference_rows(model, _SAMPLES))
    found = {}
    for name, inputs in samples.items():
        expected, got = model.run(name, inputs), run(name, inputs)
        if set(got) != set(expected):
            raise ExportError(f"ONNX {name} must give {sorted(expected)}. Received: {sorted(got)}.")
        key = next(key for key in expected if key != "p_value")
        found[name] = _rms(got[key].astype("float64") - expected[key]) / max(_rms(expected[key]), 1e-30)
    return found


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(x, dtype="float64"))))


def _seconds(folders: dict[str, Path], inputs: dict[str, Arrays]) -> dict[str, dict[str, Any]]:
    runs = {method: _runner(folder) for method, folder in folders.items()}
    found: dict[str, dict[str, Any]] = {method: {"seconds": {}, "time_ratio": {}} for method in folders}
    for function, source in inputs.items():
        for batch in BATCHES:
            some = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in source.items()}
            times = bench.alternate({method: _call(run, function, some) for method, run in runs.items()}, _SECONDS)
            for method in folders:
                entry = found[method]
                entry["seconds"].setdefault(function, {})[str(batch)] = float(np.median(times[method]))
                ratio = bench.ratio(times[method], times["float32"])
                entry["time_ratio"].setdefault(function, {})[str(batch)] = ratio
    return found


def _call(run: Runner, function: str, inputs: Arrays) -> Callable[[], object]:
    return lambda: run(function, inputs)


def _fastest(figures: dict[str, dict[str, Any]]) -> str | None:
    """Of the methods that pass, the one whose functions take the least part of float32's time on average."""
    passing = {
        method: np.mean([np.log(r) for by in tried["time_ratio"].values() for r in by.values()])
        for method, tried in figures.items()
        if tried["reason"] is None
    }
    return min(passing, key=lambda method: float(passing[method]), default=None)
