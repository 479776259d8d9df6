"""The command line: each command parses, calls one function, and prints. Heavy imports are inside the commands."""

import inspect
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from keras_ae import __version__
from keras_ae.errors import InputError, Interrupted, KerasAEError, MissingExtra

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # half of the time to --help would go into importing what paints it
    help="Autoencoders for Keras 3: one fit leaves one artifact that is proven to run everywhere.",
)


class ExportKind(StrEnum):
    """Formats of `keras-ae export --to`."""

    saved_model = "saved_model"
    onnx = "onnx"
    tf_serving = "tf_serving"


class Precision(StrEnum):
    """Of ONNX graphs, beside float32."""

    int8 = "int8"
    float16 = "float16"


class Otherwise(StrEnum):
    """What to do about a row of a table that can't be used."""

    stop = "stop"
    skip = "skip"


# Typer carries its own copy of Click and exports only this subclass of what a wrong command line raises.
_UsageError: Any = typer.BadParameter.__base__
_INTERRUPTED = 130
_DRIFTED = 3
_TOLD = 10
"""Skipped rows that are told of one by one."""

Artifact = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an artifact.")]
Input = Annotated[Path, typer.Argument(metavar="INPUT", help="Rows: .npy, .npz, .csv or .parquet.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="File to write: .npy, .npz, .csv or .parquet.")]
OnError = Annotated[
    Otherwise, typer.Option("--on-error", help="A row of a table that can't be used: stop, or skip it and say so.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object last, and nothing else on stdout.")]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"keras-ae {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a file's values the defaults of the other parameters."""
    if path is not None:
        from keras_ae.config import read_config

        known = [str(parameter.name) for parameter in context.command.params]
        context.default_map = {**(context.default_map or {}), **read_config(path, known)}
    return path


@app.command()
def fit(
    source: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, fashion_mnist, cifar10, a file (.npy, .npz, .csv, .parquet) or a folder of images."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the artifact: new, empty, or one to replace.")],
    recipe: Annotated[str, typer.Option(help="Family of autoencoder; see `keras-ae recipes`.")] = "vae",
    latent_dim: Annotated[
        int | None, typer.Option(help="Numbers in z. [default: 16, or half the features where they are few]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="At most. [default: about 4,000 steps, at least 10 epochs]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows in a step. [default: 128, less for small data]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the split, the weights and the noise.")] = 0,
    network: Annotated[
        str | None,
        typer.Option(
            help="dense, conv, resnet, transformer, tcn, lstm, gru or linear. [default: dense for vectors, else conv]"
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of products in training: float32 or bfloat16.")] = "float32",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="NAME=VALUE", help="Of the recipe or network, such as hidden=[512,256]; repeat."
        ),
    ] = None,
    precision: Annotated[
        list[Precision] | None,
        typer.Option("--precision", help="ONNX also in int8 or float16, where it is as fast and as good; repeat."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Leave report.html in the artifact, of some of the rows.")
    ] = True,
    labels: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of a .csv or .parquet, or array of an .npz, with labels.")
    ] = None,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Don't learn from labels that the source has.")
    ] = False,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume", help="Go on from the checkpoints in OUT.run, or begin anew where there are some."
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(min=0, help="From one checkpoint to the next. [default: 0.5]", show_default=False)
    ] = None,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="The same in steps of training, where that is sooner.")
    ] = None,
    on_divergence: Annotated[
        str, typer.Option(help="Where the loss is not finite: stop, or lower_learning_rate and go on.")
    ] = "stop",
    drop: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Of a table: leave this column out; repeat.")
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='Of a table: JSON, or a file of it: {"zip": "categorical"}. [default: from their cells]',
        ),
    ] = None,
    on_error: OnError = Otherwise.stop,
    window: Annotated[
        int | None,
        typer.Option(min=2, help="Take the rows as a time series: learn windows of so many.", show_default=False),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Rows from one window to the next. [default: for 2,000 windows]")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of a series: when. [default: the column of dates, if any]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", callback=_config, is_eager=True, help="TOML of what is not given here."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on raw data, export, verify: one artifact, raw data in and raw data out.

    Checkpoints are in OUT.run until the artifact is written. SIGTERM writes one and exits with 75, Ctrl-C with 130;
    --resume goes on.

    Example: keras-ae fit digits --out saved_models/digits
    """
    from keras_ae.data import load_source
    from keras_ae.data.schema import read_given
    from keras_ae.data.windows import Windowing
    from keras_ae.processor import compilation_cache

    options = _options(option or ())
    if labels is not None and no_labels:
        raise InputError("`--labels` and `--no-labels` exclude each other. Received both.")
    run = _run_of(out, resume, minutes=checkpoint_minutes, steps=checkpoint_steps)
    given = None if schema is None else read_given(schema)
    # Before TensorFlow's import, so that a wrong path is told at once.
    windowing = None if window is None else Windowing.asked(window, stride, time)
    if windowing is None and (stride, time) != (None, None):
        raise InputError("`--stride` and `--time` are of windows, and need `--window`.")
    data = load_source(source, labels, given, drop or (), on_error is Otherwise.skip, windowing)
    if "TF_XLA_FLAGS" not in os.environ and (cache := compilation_cache()):
        os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={cache}"
    with _tensorflow("Training"):
        from keras_ae import pipeline
    taken = [name for name in options if name in inspect.signature(pipeline.fit).parameters]
    if taken:
        raise InputError(f"`--option` must be of the recipe or the network. Received: {taken[0]!r}.")
    with _telling_how_to_resume(), _progress() as progress:
        fitted = pipeline.fit(
            data,
            out,
            recipe,
            latent_dim,
            epochs,
            batch_size,
            seed,
            network,
            dtype,
            precisions=[name.value for name in precision or ()],
            labels=False if no_labels else True if labels is not None else None,
            report=report,
            progress=progress,
            resume=run,
            on_divergence=on_divergence,
            **options,
        )
    run.remove()
    for note in fitted.manifest["notes"]:
        typer.echo(f"note: {note}", err=True)
    for name, figures in fitted.manifest.get("precisions", {}).items():
        if figures["method"] is None:
            typer.echo(f"note: no {name}: {figures['reason']}", err=True)
    if as_json:
        return _print_json(fitted.summary())
    metrics = fitted.manifest["metrics"]
    typer.echo(f"{out}: {recipe}, {fitted.manifest['latent_dim']} latents, in {fitted.seconds:.0f} s")
    typer.echo(f"  RMSE on unseen rows  {metrics['rmse_test']:.4g} (PCA: {metrics['rmse_test_pca']:.4g})")
    if "accuracy_test" in metrics:
        typer.echo(f"  accuracy             {metrics['accuracy_test']:.4g} of {len(fitted.model.classes)} classes")
    for kind, figures in fitted.manifest["exports"].items():
        typer.echo(f"  {kind:<20} agrees with Keras to {figures['max_rel_diff']:.1e} relative")
    for name, figures in fitted.manifest.get("precisions", {}).items():
        if figures["method"] is not None:
            typer.echo(f"  {name:<20} {_gains(figures)}")
    if fitted.report:
        typer.echo(f"  report               {fitted.report}")
    typer.echo(f"  next                 keras-ae info {out}")


def _run_of(out: Path, resume: bool | None, **every: Any) -> Any:
    """The run whose checkpoints are beside an artifact; those that are there are neither used nor lost unasked."""
    from keras_ae.runs import Run

    folder = Path(os.path.realpath(out))
    given = {name: value for name, value in every.items() if value is not None}
    run = Run(folder.with_name(f"{folder.name}.run"), anew=resume is False, **given)
    if resume is None and run.checkpoints():
        raise InputError(
            f"{run.folder} holds checkpoints of a run that did not end: --resume goes on from there, --no-resume "
            "begins anew. Received: neither."
        )
    return run


@contextmanager
def _telling_how_to_resume() -> Iterator[None]:
    try:
        yield
    except Interrupted as error:  # Typer would take it for Ctrl-C, and say nothing
        _fail(str(error), error.exit_code)


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the families of autoencoder, one line and the paper each."""
    with _tensorflow("The table of recipes"):
        from keras_ae.recipes import RECIPES
    if as_json:
        rows = {name: {"summary": r.summary, "paper": r.paper, "options": r.options} for name, r in RECIPES.items()}
        return _print_json(rows)
    width = max(map(len, RECIPES))
    for name, entry in RECIPES.items():
        typer.echo(f"{name:<{width}} {entry.summary} ({entry.paper})")


@app.command()
def info(
    artifact: Artifact,
    config: Annotated[
        bool, typer.Option("--config", help="Print the TOML file that `keras-ae fit --config` makes the same of.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what an artifact holds: input, latents, metrics, exports and their agreement with Keras."""
    from keras_ae.artifact import read_manifest

    manifest = read_manifest(artifact)
    if config:
        from keras_ae.config import config_of

        return typer.echo(config_of(manifest), nl=False)
    if as_json:
        return _print_json(manifest)
    source = manifest["input"]
    typer.echo(
        f"{artifact}: {manifest['name']}, made by keras-ae {manifest['versions']['keras_ae']} on {manifest['created']}"
    )
    typer.echo(f"  input      {source['dtype']} (batch, {', '.join(map(str, source['shape']))})")
    if manifest.get("columns"):
        typer.echo(f"  columns    {', '.join(_columns(manifest))}")
    typer.echo(f"  latents    {manifest['latent_dim']}")
    if manifest.get("classes"):
        typer.echo(f"  classes    {_some(manifest['classes'])}")
    typer.echo(f"  functions  {', '.join(manifest['functions'])}")
    for name, value in manifest.get("metrics", {}).items():
        typer.echo(f"  {name:<22} {value:.6g}")
    for kind, figures in manifest["exports"].items():
        typer.echo(
            f"  {kind:<22} largest difference {figures['max_abs_diff']:.2e} ({figures['max_rel_diff']:.1e} relative)"
        )
    for name, figures in manifest.get("precisions", {}).items():
        typer.echo(f"  {name:<16} {'refused: ' + figures['reason'] if figures['method'] is None else _gains(figures)}")
    for note in manifest.get("notes", ()):
        typer.echo(f"  note: {note}")


@app.command()
def doctor(
    tensorflow: Annotated[
        bool, typer.Option("--tensorflow/--no-tensorflow", help="Import TensorFlow, if it is there, for its devices.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Print versions, devices, providers, and what is missing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_ae.doctor import diagnose

    found = diagnose(tensorflow)
    if as_json:
        return _print_json(found.to_dict())
    typer.echo(str(found))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
) -> None:
    """Write a small project that works as it stands: data, a config file, a Makefile and a test.

    Example: keras-ae init orders && make -C orders all test
    """
    from keras_ae.starter import start_project

    for path in start_project(folder):
        typer.echo(str(path))
    typer.echo(f"next: make -C {folder} all test")


@app.command()
def verify(artifact: Artifact, as_json: Json = False) -> None:
    """Check every file's hash, and each export against Keras again where TensorFlow is installed."""
    import importlib.util

    from keras_ae.artifact import verify_files

    manifest = verify_files(artifact)
    if importlib.util.find_spec("tensorflow") is None:
        from keras_ae import runtime

        runtime.load(artifact).generate(1, seed=0)
        result: dict[str, Any] = {"artifact": str(artifact), "files": len(manifest["files"]), "exports": None}
    else:
        with _tensorflow("Verifying"):
            from keras_ae import pipeline
        result = pipeline.verify(artifact)
    if as_json:
        return _print_json(result)
    typer.echo(f"{artifact}: {result['files']} files unchanged")
    for kind, figures in (result["exports"] or {}).items():
        typer.echo(f"  {kind:<12} agrees with Keras to {figures['max_rel_diff']:.1e} relative")
    for name, differences in result.get("precisions", {}).items():
        typer.echo(f"  {name:<12} differs from Keras by {max(differences.values()):.1e} relative, as when it was made")
    if result["exports"] is None:
        typer.echo("  exports not compared with Keras: TensorFlow is not installed")


@app.command()
def encode(artifact: Artifact, rows: Input, out: Out, on_error: OnError = Otherwise.stop) -> None:
    """Raw rows to latents z."""
    _apply("encode", artifact, rows, out, on_error)


@app.command()
def decode(artifact: Artifact, rows: Input, out: Out) -> None:
    """Latents z to rows in raw units."""
    _apply("decode", artifact, rows, out)


@app.command()
def reconstruct(artifact: Artifact, rows: Input, out: Out, on_error: OnError = Otherwise.stop) -> None:
    """Raw rows to their reconstructions AE(x), in raw units."""
    _apply("reconstruct", artifact, rows, out, on_error)


@app.command()
def impute(artifact: Artifact, rows: Input, out: Out, as_json: Json = False) -> None:
    """A table with its missing cells filled, all else as it is.

    Of an artifact that was trained on a table, for columns in which cells were missing then.
    """
    from keras_ae import runtime
    from keras_ae.files import impute_file

    with _rows_progress("impute") as on_rows:
        filled = impute_file(runtime.load(artifact), rows, out, on_rows)
    if as_json:
        return _print_json({"out": str(out), "filled": filled})
    told = ", ".join(f"{count:,} of {name}" for name, count in filled.items())
    typer.echo(f"{out}: {told or 'no cells'} filled")


@app.command()
def score(
    artifact: Artifact,
    rows: Input,
    out: Out,
    alpha: Annotated[
        float | None, typer.Option(help="Add a column `anomaly`: 1 for a p-value of at most this.", show_default=False)
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(help="The same for all rows at once: this share of the alarms is false.", show_default=False),
    ] = None,
    on_error: OnError = Otherwise.stop,
) -> None:
    """Raw rows to anomaly scores (higher is more anomalous) and conformal p-values.

    With --alpha 0.01 one normal row in a hundred gives an alarm. With --fdr 0.1 one alarm in ten is false (Benjamini
    and Hochberg 1995); many calibration rows or many anomalies are needed for any.
    """
    if alpha is not None and fdr is not None:
        raise InputError("`--alpha` and `--fdr` are two ways to call an alarm: give one of them.")
    _apply("score", artifact, rows, out, on_error, alpha, fdr)


@app.command()
def monitor(
    artifact: Artifact,
    rows: Input,
    level: Annotated[float, typer.Option(help="Chance of an alarm where nothing has changed.")] = 0.001,
    as_json: Json = False,
) -> None:
    """New rows beside those of training: have scores, columns or latents changed? Exits with 3 if so.

    The artifact keeps up to 1,000 rows for this that it was not trained on.
    """
    with _scikit_learn("Monitoring"):
        from keras_ae.monitoring import monitor_file

        drift = monitor_file(artifact, rows, level)
    if as_json:
        _print_json({"artifact": str(artifact), **drift.to_dict()})
    else:
        typer.echo(str(drift))
    if drift.found:
        raise typer.Exit(_DRIFTED)


@app.command()
def explain(artifact: Artifact, rows: Input, out: Out, on_error: OnError = Otherwise.stop) -> None:
    """Raw rows to what each column adds to the anomaly score; a row of them sums to its score."""
    _apply("explain", artifact, rows, out, on_error)


@app.command()
def classify(artifact: Artifact, rows: Input, out: Out, on_error: OnError = Otherwise.stop) -> None:
    """Raw rows to the probability of each class, p(y | x), one column a class.

    Of an artifact that was trained with labels.
    """
    _apply("classify", artifact, rows, out, on_error)


@app.command()
def generate(
    artifact: Artifact,
    out: Out,
    n: Annotated[int, typer.Option("--n", "-n", help="Rows to generate.")],
    label: Annotated[
        str | None, typer.Option(help="Class of the rows, by name. [default: each by its frequency]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same rows. [default: new rows each time]")] = None,
) -> None:
    """New rows, in raw units, drawn from the model."""
    from keras_ae import runtime
    from keras_ae.data.output import check_output, write_rows
    from keras_ae.data.tables import TABLES

    check_output(out)
    model = runtime.load(artifact)
    x = model.generate(n, label, seed)
    is_table = model.schema is not None and out.suffix in TABLES
    write_rows(out, model.table(x) if is_table else {"x": x}, model.columns)


@app.command()
def export(
    artifact: Artifact,
    to: Annotated[ExportKind, typer.Option("--to", help="Format.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="New folder for the export alone; tf_serving: may hold earlier versions. "
            "[default: DIR-<format>; for --precision DIR itself]",
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="ONNX: each function's weights in its own file.")
    ] = False,
    precision: Annotated[
        Precision | None, typer.Option(help="ONNX in int8 or float16, measured; refused where it is slower or worse.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="For --precision: what the artifact was trained on. [default: what its manifest names]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="tf_serving: of the model. [default: the artifact's folder]")] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="tf_serving: newest versions that stay. [default: all]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Export an artifact's model again, verified, into a folder of its own.

    For TF Serving the artifact's SavedModel is added as a new version, with what it warms up on.
    """
    if to is not ExportKind.tf_serving and (name is not None or keep is not None):
        raise InputError(f"`--name` and `--keep` are of --to tf_serving. Received: --to {to.value}.")
    if precision is not None and to is not ExportKind.onnx:
        raise InputError(f"`--precision` is of --to onnx. Received: --to {to.value}.")
    if source is not None and precision is None:
        raise InputError("`--source` is for --precision. Received: no precision.")
    if to is ExportKind.tf_serving:
        return _export_tf_serving(
            artifact, out or artifact.with_name(f"{artifact.name}-{to.value}"), name, keep, as_json
        )
    with _tensorflow("Exporting"):
        from keras_ae import pipeline
    if precision is not None:
        result = pipeline.add_precision(artifact, precision.value, out, source, single_file)
        if as_json:
            return _print_json(result)
        return typer.echo(f"{result['out']}: {precision.value}, {_gains(result['figures'])}")
    out = out or artifact.with_name(f"{artifact.name}-{to.value}")
    result = pipeline.export(artifact, to.value, out, single_file)
    if as_json:
        return _print_json(result)
    typer.echo(f"{out}: {to.value} agrees with Keras to {result['export']['max_rel_diff']:.1e} relative")


def _export_tf_serving(artifact: Path, out: Path, name: str | None, keep: int | None, as_json: bool) -> None:
    with _tensorflow("Exporting"):
        from keras_ae.export.tf_serving import export_tf_serving
    result = export_tf_serving(artifact, out, name, keep)
    if as_json:
        return _print_json(result)
    removed = f"; removed {', '.join(map(str, result['removed']))}" if result["removed"] else ""
    typer.echo(f"{out}: {result['model']} version {result['version']}{removed}")
    typer.echo(f"  next  docker compose --file {out / 'compose.yaml'} up")


@app.command()
def serve(
    artifacts: Annotated[
        list[str],
        typer.Argument(metavar="DIR...", help="Artifacts, or folders of numbered ones; NAME=DIR gives another name."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")] = 8501,
    keep: Annotated[int, typer.Option(min=1, help="Newest versions of a model that stay loaded.")] = 2,
    precision: Annotated[
        Precision | None, typer.Option(help="Of the ONNX graphs, where the artifacts hold it. [default: float32]")
    ] = None,
    body_bytes: Annotated[int, typer.Option(min=1, help="Of one request, at most.")] = 8 << 20,
    rows: Annotated[int, typer.Option(min=1, help="Of one request, at most.")] = 4096,
    requests: Annotated[int, typer.Option(min=1, help="At once; more are told to come again.")] = 256,
    seconds: Annotated[float, typer.Option(min=0.01, help="To receive a request, and to compute it.")] = 30.0,
    threads: Annotated[int | None, typer.Option(min=1, help="That compute. [default: one a processor]")] = None,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log every request, not only those that fail.")
    ] = False,
) -> None:
    """Serve artifacts over HTTP: TF Serving's REST API and the Open Inference Protocol v2, without TensorFlow.

    A new version, or an artifact that is replaced, is loaded while requests go on. Ctrl-C or SIGTERM finishes what is
    being computed.
    """
    try:
        from keras_ae import serving
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("keras_ae"):
            raise
        raise MissingExtra("The server", "serve") from error
    limits = serving.Limits(body_bytes, rows, requests, seconds, threads or os.cpu_count() or 1)
    serving.serve(serving.Models(artifacts, keep, precision or "float32"), host, port, limits, log_requests)


@app.command()
def bench(
    artifact: Artifact,
    as_json: Json = False,
    chart: Annotated[Path | None, typer.Option(help="Also draw a chart: .svg, .png or .pdf.")] = None,
    keras: Annotated[
        bool, typer.Option("--keras/--no-keras", help="Time Keras's predict too, where TensorFlow is installed.")
    ] = True,
    seconds: Annotated[float, typer.Option(min=0.01, help="For each figure.")] = 0.5,
) -> None:
    """Measure latency and throughput of every function, in every precision and on every provider that starts here."""
    import importlib.util

    from keras_ae import bench

    if chart is not None:
        bench.check_chart(chart)
    others: dict[str, bench.Way] = {}
    if keras and importlib.util.find_spec("tensorflow") is not None:
        with _tensorflow("Timing Keras"):
            from keras_ae import pipeline
        others["Keras predict"] = pipeline.predicting(artifact)
    with _progress() as progress:
        speeds = bench.measure(artifact, others, seconds, lambda _, share: progress("measuring", share))
    if chart is not None:
        bench.chart(speeds, chart, f"{artifact.name} on {bench.machine()}")
    if as_json:
        return _print_json({"artifact": str(artifact), "machine": bench.machine(), "speeds": [vars(s) for s in speeds]})
    _show_speeds(artifact, speeds)


@app.command()
def evaluate(
    artifact: Artifact,
    source: Annotated[
        str | None, typer.Argument(help="What it was trained on. [default: what its manifest names]")
    ] = None,
    max_rows: Annotated[int, typer.Option(min=10, help="Samples compared with as many rows, at most.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of samples, halves and intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Judge the model: do its samples look drawn from the data, and are they different from the rows trained on?

    Each number stands beside the same for real held-out rows, copies of training rows, and PCA with a mixture.
    """
    nll = _nll_bound(artifact)
    with _scikit_learn("Evaluation"), _progress() as progress:
        from keras_ae.judging import evaluate_artifact

        found = evaluate_artifact(artifact, source, max_rows, seed, progress, nll)
    if as_json:
        return _print_json({"artifact": str(artifact), **found.to_dict()})
    typer.echo(str(found))


@app.command()
def report(
    artifact: Artifact,
    source: Annotated[
        str | None, typer.Argument(help="What it was trained on. [default: what its manifest names]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [default: DIR-report.html]")] = None,
    max_rows: Annotated[int, typer.Option(min=10, help="Samples compared with as many rows, at most.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of samples, halves and intervals.")] = 0,
) -> None:
    """One page: is the model good, the numbers, and pictures of reconstructions, samples, latents and scores."""
    out = out or artifact.resolve().with_name(f"{artifact.resolve().name}-report.html")
    nll = _nll_bound(artifact)
    with _scikit_learn("The report"), _progress() as progress:
        from keras_ae.report import write_report

        found = write_report(artifact, out, source, max_rows, seed, progress, nll)
    typer.echo(f"{out}\n{found.verdict}" if found.verdict else str(out))


def _nll_bound(artifact: Path) -> Any:
    """From rows to a bound on -log p(x), where TensorFlow is installed and the model has one."""
    import importlib.util

    if importlib.util.find_spec("tensorflow") is None:
        return None
    with _tensorflow("The likelihood"):
        from keras_ae import pipeline
    return pipeline.nll_bound(artifact)


@app.command()
def explore(
    artifact: Artifact,
    source: Annotated[
        str | None, typer.Argument(help="What it was trained on. [default: what its manifest names]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write, for any static host. [default: serve it here]")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows/--no-rows", help="Whether some training rows travel with the page.")
    ] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On localhost; 0 for one that is free.")] = 0,
) -> None:
    """A page that runs the model in the browser: its latent map, sliders, walks, neighbours, and your own rows."""
    import tempfile
    import time

    from keras_ae.explore import serving, write_page

    if out is not None:
        page = write_page(artifact, out, source, rows)
        return typer.echo(f"{out}: a page for any static host, {_holds(page)}")
    with tempfile.TemporaryDirectory() as folder:
        page = write_page(artifact, folder, source, rows)
        with serving(folder, port) as address:
            typer.echo(f"{address}  {_holds(page)}; Ctrl-C to stop")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                typer.echo("stopped", err=True)


def _holds(page: Any) -> str:
    if page.note is not None:
        return f"with {page.points:,} of the model's own samples ({page.note})"
    return f"with z of {page.points:,} training rows and {page.rows:,} of those rows; --no-rows leaves them out"


def _apply(
    function: str,
    artifact: Path,
    source: Path,
    out: Path,
    on_error: Otherwise = Otherwise.stop,
    alpha: float | None = None,
    rate: float | None = None,
) -> None:
    from keras_ae import runtime
    from keras_ae.data.output import check_output
    from keras_ae.files import run_file

    check_output(out)
    model = runtime.load(artifact)
    rows = model.manifest.get("calibration_rows", 0)
    if alpha is not None and alpha * (rows + 1) < 1:
        typer.echo(f"note: {rows:,} calibration rows give no p-value below {1 / (rows + 1):.2g}", err=True)
    skipped: list[Any] = []
    on_skipped = skipped.extend if on_error is Otherwise.skip else None
    with _rows_progress(function) as on_rows:
        run_file(model, function, source, out, on_rows, alpha, rate, on_skipped)
    for problem in skipped[:_TOLD]:
        typer.echo(f"skipped: {problem.message}", err=True)
    if len(skipped) > _TOLD:
        typer.echo(f"skipped: {len(skipped) - _TOLD:,} more", err=True)


def _columns(manifest: dict[str, Any]) -> list[str]:
    """Names of the columns, with what they are where that is not a number."""
    kinds = {of["name"]: of["kind"] for of in manifest.get("table", {}).get("columns", ())}
    shown = {name: kinds.get(name, "numeric") for name in manifest["columns"]}
    return [name if kind == "numeric" else f"{name} ({kind})" for name, kind in shown.items()]


def _some(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _gains(figures: dict[str, Any]) -> str:
    """What a precision that was kept gains and costs, of its `reconstruct`."""
    tried = figures["tried"][figures["method"]]
    ratio = tried["time_ratio"]["reconstruct"]
    return (
        f"{1 / ratio['1']:.1f} times as fast as float32 for one row and {1 / ratio['64']:.1f} times for 64, "
        f"{tried['bytes'] / figures['float32']['bytes']:.0%} of its bytes, RMSE {100 * tried['rmse_change']:+.2f} %"
    )


def _show_speeds(artifact: Path, speeds: Any) -> None:
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table

    from keras_ae.bench import BATCHES, machine

    console = Console()
    table = Table(title=f"{artifact.name} on {machine()}", title_justify="left")
    for heading in ("function", "runs"):
        table.add_column(heading, no_wrap=True)
    for heading in ("p50\nus", "p99\nus", *(f"rows/s\nby {batch:,}" for batch in BATCHES)):
        table.add_column(heading, justify="right", no_wrap=True)
    for i, speed in enumerate(speeds):
        table.add_row(
            speed.function if i == 0 or speeds[i - 1].function != speed.function else "",
            speed.runs,
            f"{1e6 * speed.p50:,.1f}",
            f"{1e6 * speed.p99:,.1f}",
            *(f"{speed.rows_per_second[batch]:,.0f}" for batch in BATCHES),
            end_section=i + 1 == len(speeds) or speeds[i + 1].function != speed.function,
        )
    console.print(table)
    best = max(speed.rows_per_second[BATCHES[-1]] for speed in speeds)
    bars = Table(title=f"rows/s in batches of {BATCHES[-1]:,}", title_justify="left", box=None, show_header=False)
    for speed in speeds:
        rate = speed.rows_per_second[BATCHES[-1]]
        bars.add_row(speed.function, speed.runs, Bar(best, 0, rate, width=40), f"{rate:,.0f}")
    console.print(bars)


def _options(pairs: Any) -> dict[str, Any]:
    options = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"`--option` must be NAME=VALUE. Received: {pair!r}.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content))


@contextmanager
def _tensorflow(what: str) -> Iterator[None]:
    """Imports TensorFlow without its greetings on stderr; they come from C++, below Python's streams."""
    import tempfile

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as greetings:
        stderr = os.dup(2)
        os.dup2(greetings.fileno(), 2)
        try:
            yield
            import tensorflow  # noqa: F401
        except ImportError as error:
            if error.name and error.name.startswith("keras_ae"):
                raise
            raise MissingExtra(what, "train") from error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextmanager
def _scikit_learn(what: str) -> Iterator[None]:
    """Says which extra is missing where an import in the block fails."""
    try:
        yield
    except ImportError as error:
        if error.name and error.name.startswith("keras_ae"):
            raise
        raise MissingExtra(what, "train") from error


@contextmanager
def _progress() -> Iterator[Any]:
    """Tells what runs, on stderr: a bar on a terminal, a line a stage otherwise."""
    from rich.console import Console
    from rich.progress import BarColumn as Bar
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said: list[str] = []

        def tell(what: str, share: float | None = None) -> None:
            if not said or said[-1] != what:
                said.append(what)
                console.print(what, highlight=False)

        yield tell
        return
    with Progress(
        TextColumn("{task.description}"), Bar(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, share: float | None = None) -> None:
            bar.update(task, description=what, total=None if share is None else 1.0, completed=share or 0.0)

        yield show


@contextmanager
def _rows_progress(what: str) -> Iterator[Any]:
    """A bar of rows on a terminal, from the first batch of several on."""
    bar: Any = None

    def show(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None and done != total and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            bar.add_task(f"{what}, rows")
            bar.start()
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done, total=total)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()


def _usage(error: Any) -> str:
    """What is wrong with a command line; Typer's own message does not repeat a value of the wrong type or size."""
    details = getattr(error.__cause__, "errors", None)
    message = error.format_message()
    return f"{message}. Received: {details()[0]['input']}." if details else message


def _fail(message: str, code: int) -> NoReturn:
    print(f"keras-ae: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """Runs the command line: errors are one line on stderr; exit 2 for bad input, 130 for Ctrl-C, 75 for SIGTERM
    during `fit`, 1 for what failed.
    """
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == _INTERRUPTED:  # Typer makes an exit code of Ctrl-C, and says nothing
            raise KeyboardInterrupt
        sys.exit(code)
    except KerasAEError as error:
        _fail(str(error), error.exit_code)
    except _UsageError as error:
        _fail(_usage(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was changed", _INTERRUPTED)
    except MemoryError as error:
        _fail(f"out of memory: {error}", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except OSError as error:
        _fail(str(error), 1)
