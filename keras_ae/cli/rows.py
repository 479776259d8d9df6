"""Rows in, rows out: a command for each function of an artifact."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ae.cli.arguments import (
    Artifact,
    Engine,
    EngineOf,
    Input,
    Json,
    Keys,
    OnError,
    Otherwise,
    Out,
    Providers,
    Workers,
    providers_of,
)
from keras_ae.cli.console import print_json
from keras_ae.errors import InputError
from keras_ae.progress import rows_bar

_TOLD = 10
"""Skipped rows that are told of one by one."""


def _of_rows(function: str, what: str) -> Callable[..., None]:
    """The command of a function from raw rows to results."""

    def command(
        artifact: Artifact,
        rows: Input,
        out: Out = None,
        on_error: OnError = Otherwise.stop,
        provider: Providers = None,
        engine: EngineOf = Engine.local,
        workers: Workers = None,
        key: Keys = None,
    ) -> None:
        _apply(function, artifact, rows, out, provider, on_error, _engine(engine, workers, key))

    command.__name__, command.__doc__ = function, what
    return command


encode = _of_rows("encode", "Raw rows to latents z.")
reconstruct = _of_rows("reconstruct", "Raw rows to their reconstructions AE(x), in raw units.")
explain = _of_rows(
    "explain", "Raw rows to what each column adds to the anomaly score.\n\nA row of them sums to its score."
)
classify = _of_rows(
    "classify",
    "Raw rows to the probability of each class, p(y | x)."
    "\n\nOne column a class, of an artifact that was trained with labels.",
)


def decode(
    artifact: Artifact,
    rows: Input,
    out: Out = None,
    provider: Providers = None,
    engine: EngineOf = Engine.local,
    workers: Workers = None,
    key: Keys = None,
) -> None:
    """Latents z to rows in raw units."""
    _apply("decode", artifact, rows, out, provider, ray=_engine(engine, workers, key))


def impute(artifact: Artifact, rows: Input, out: Out = None, as_json: Json = False) -> None:
    """A table with its missing cells filled, all else as it is.

    Of an artifact that was trained on a table, for columns in which cells were missing then.
    """
    from keras_ae import runtime
    from keras_ae.files import impute_file

    if as_json and out is None:
        raise InputError("`--json` needs `--out`, as both would go to the screen. Received no file.")
    with rows_bar("impute") as on_rows:
        filled = impute_file(runtime.load(artifact), rows, out, on_rows)
    if as_json:
        return print_json({"out": str(out), "filled": filled})
    if out is None:
        return None
    told = ", ".join(f"{count:,} of {name}" for name, count in filled.items())
    typer.echo(f"{out}: {told or 'no cells'} filled")


def score(
    artifact: Artifact,
    rows: Input,
    out: Out = None,
    alpha: Annotated[
        float | None, typer.Option(help="Add a column `anomaly`: 1 for a p-value of at most this.", show_default=False)
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(help="The same for all rows at once: this share of the alarms is false.", show_default=False),
    ] = None,
    on_error: OnError = Otherwise.stop,
    provider: Providers = None,
    engine: EngineOf = Engine.local,
    workers: Workers = None,
    key: Keys = None,
) -> None:
    """Raw rows to anomaly scores and conformal p-values.

    A high score is anomalous. With --alpha 0.01 one normal row in a hundred gives an alarm. With --fdr 0.1 one alarm in
    ten is false (Benjamini and Hochberg 1995); many calibration rows or many anomalies are needed for any.
    """
    if alpha is not None and fdr is not None:
        raise InputError("`--alpha` and `--fdr` are two ways to call an alarm: give one of them.")
    _apply("score", artifact, rows, out, provider, on_error, _engine(engine, workers, key), alpha, fdr)


def generate(
    artifact: Artifact,
    n: Annotated[int, typer.Option("--n", "-n", help="Rows to generate.")],
    out: Out = None,
    label: Annotated[
        str | None, typer.Option(help="Class of the rows, by name. [default: each by its frequency]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same rows. [default: new rows each time]")] = None,
    missing: Annotated[
        bool, typer.Option(help="Of a table: leave cells empty as often as in its rows, or fill them all.")
    ] = True,
) -> None:
    """New rows, in raw units, drawn from the model."""
    from keras_ae import runtime
    from keras_ae.data.output import check_output, write_rows
    from keras_ae.files import as_cells

    check_output(out)
    model = runtime.load(artifact)
    write_rows(out, as_cells(model, model.generate(n, label, seed, missing), out), model.columns)


def _engine(engine: Engine, workers: int | None, keys: list[str] | None) -> dict[str, Any] | None:
    """How Ray is to run a function; None where it is not to."""
    if engine is Engine.ray:
        return {"workers": workers, "keys": keys or ()}
    if workers is not None or keys:
        raise InputError("`--workers` and `--key` are of --engine ray. Received: --engine local.")
    return None


def _apply(
    function: str,
    artifact: Path,
    source: Path,
    out: Path | None,
    provider: list[str] | None,
    on_error: Otherwise = Otherwise.stop,
    ray: dict[str, Any] | None = None,
    alpha: float | None = None,
    rate: float | None = None,
) -> None:
    from keras_ae import runtime
    from keras_ae.alarms import least_p_value
    from keras_ae.data.output import check_output
    from keras_ae.files import run_file

    if ray is None:
        check_output(out)
    elif out is None:
        raise InputError("`--engine ray` needs `--out`, a folder. Received none.")
    elif rate is not None:
        raise InputError("`--fdr` judges all rows together, which no worker holds. Received: --engine ray.")
    model = runtime.load(artifact, providers=providers_of(provider))
    if provider == ["auto"]:
        typer.echo(f"note: runs on {model.providers[0]}", err=True)
    rows = model.manifest.get("calibration_rows", 0)
    if alpha is not None and alpha < least_p_value(rows):
        typer.echo(f"note: {rows:,} calibration rows give no p-value below {least_p_value(rows):.2g}", err=True)
    if ray is not None and out is not None:
        from keras_ae.distributed import run_files

        skip = on_error is Otherwise.skip
        done = run_files(
            artifact, function, source, out, providers=providers_of(provider), alpha=alpha, skip=skip, **ray
        )
        return typer.echo(f"{out}: {done:,} rows")
    skipped: list[Any] = []
    on_skipped = skipped.extend if on_error is Otherwise.skip else None
    with rows_bar(function) as on_rows:
        run_file(model, function, source, out, on_rows, alpha, rate, on_skipped)
    for problem in skipped[:_TOLD]:
        typer.echo(f"skipped: {problem.message}", err=True)
    if len(skipped) > _TOLD:
        typer.echo(f"skipped: {len(skipped) - _TOLD:,} more", err=True)
