"""`fit`: from raw data to an artifact."""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ae.cli.arguments import Json, OnError, Otherwise, Precision
from keras_ae.cli.artifacts import gains
from keras_ae.cli.console import fail, pairs_of, print_json, tensorflow_imported
from keras_ae.errors import InputError, Interrupted
from keras_ae.progress import stages
from keras_ae.recipes import DEFAULT, RECIPES, choose
from keras_ae.workers import CLUSTER, MINUTES, run_workers


def _config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a file's values the defaults of the other parameters."""
    if path is not None:
        from keras_ae.config import read_config

        known = [str(parameter.name) for parameter in context.command.params]
        context.default_map = {**(context.default_map or {}), **read_config(path, known)}
    return path


def fit(
    source: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, fashion_mnist, cifar10; a file (.npy, .npz, .csv, .parquet, .tfrecord), a folder "
            "or a quoted glob of such files or of images."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the artifact: new, empty, or one to replace.")],
    recipe: Annotated[str, typer.Option(help="Family of autoencoder; see `keras-ae recipes`.")] = DEFAULT,
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
    keep_rows: Annotated[
        bool,
        typer.Option(
            "--keep-rows/--no-keep-rows",
            help="Whether the artifact may hold rows of SOURCE: for the score, for monitor and for the report.",
        ),
    ] = True,
    contamination: Annotated[
        float | None,
        typer.Option(
            help="Share of the rows that are anomalies, up to 0.5: what stands apart is left out of training.",
            show_default=False,
        ),
    ] = None,
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
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Read rows anew each epoch instead of holding them. [default: above 256 MB]",
            show_default=False,
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            metavar="NAME[=PLACE]",
            help="Tell csv, tensorboard or mlflow of the run; repeat.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=2, help="Processes of this machine that train together; ignored where TF_CONFIG names a cluster."
        ),
    ] = None,
    worker_minutes: Annotated[float, typer.Option(min=0, help="Wait so long for all workers to come up.")] = MINUTES,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", callback=_config, is_eager=True, help="TOML of what is not given here."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on raw data, export, verify: one artifact.

    It takes raw data and gives raw data back. Checkpoints are in OUT.run until the artifact is written. SIGTERM writes
    one and exits with 75, Ctrl-C with 130; --resume goes on.

    Example: keras-ae fit digits --out saved_models/digits
    """
    from keras_ae.artifact import check_target
    from keras_ae.artifact import rmse as rmse_of
    from keras_ae.data import load_source
    from keras_ae.data.schema import read_given
    from keras_ae.data.windows import Windowing
    from keras_ae.processor import compilation_cache

    options = pairs_of("--option", option or ())
    choose("recipe", recipe, RECIPES)
    check_target(out)
    if labels is not None and no_labels:
        raise InputError("`--labels` and `--no-labels` exclude each other. Received both.")
    in_cluster = CLUSTER in os.environ
    run = _run_of(out, resume, minutes=checkpoint_minutes, steps=checkpoint_steps)
    given = None if schema is None else read_given(schema)
    if workers is not None and not in_cluster:
        code = run_workers([sys.executable, "-m", "keras_ae", *sys.argv[1:]], workers)
        if code:
            sys.exit(code)
        return None
    # Before TensorFlow's import, so that a wrong path is told at once.
    windowing = None if window is None else Windowing.asked(window, stride, time)
    if windowing is None and (stride, time) != (None, None):
        raise InputError("`--stride` and `--time` are of windows, and need `--window`.")
    data = load_source(source, labels, given, drop or (), on_error is Otherwise.skip, windowing, stream)
    if "TF_XLA_FLAGS" not in os.environ and (cache := compilation_cache()):
        os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={cache}"
    with tensorflow_imported("Training"):
        from keras_ae import pipeline
    strategy = None
    if in_cluster:
        from keras_ae.replicas import strategy_of_cluster

        strategy = strategy_of_cluster(worker_minutes)
    taken = [name for name in options if name in inspect.signature(pipeline.fit).parameters]
    if taken:
        raise InputError(f"`--option` must be of the recipe or the network. Received: {taken[0]!r}.")
    with _telling_how_to_resume(), stages() as progress:
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
            keep_rows=keep_rows,
            contamination=contamination,
            progress=progress,
            resume=run,
            on_divergence=on_divergence,
            strategy=strategy,
            track=track or (),
            **options,
        )
    if fitted.artifact is None:  # of a worker that is not the first
        return None
    run.remove()
    for note in fitted.manifest["notes"]:
        typer.echo(f"note: {note}", err=True)
    for name, figures in fitted.manifest.get("precisions", {}).items():
        if figures["method"] is None:
            typer.echo(f"note: no {name}: {figures['reason']}", err=True)
    if as_json:
        return print_json(fitted.summary())
    metrics = fitted.manifest["metrics"]
    typer.echo(f"{out}: {recipe}, {fitted.manifest['latent_dim']} latents, in {fitted.seconds:.0f} s")
    if fitted.manifest["columns"]:
        typer.echo(f"  table                {_table(fitted.manifest)}")
    (rmse, own), (pca, _) = (rmse_of(metrics, rows) for rows in ("test", "test_pca"))
    typer.echo(f"  RMSE on unseen rows  {rmse:.4g}{' deviations' if own else ''} (PCA: {pca:.4g})")
    if "accuracy_test" in metrics:
        typer.echo(f"  accuracy             {metrics['accuracy_test']:.4g} of {len(fitted.model.classes)} classes")
    for kind, figures in fitted.manifest["exports"].items():
        typer.echo(f"  {kind:<20} agrees with Keras to {figures['max_rel_diff']:.1e} relative")
    for name, figures in fitted.manifest.get("precisions", {}).items():
        if figures["method"] is not None:
            typer.echo(f"  {name:<20} {gains(figures)}")
    if fitted.report:
        typer.echo(f"  report               {fitted.report}")
    typer.echo(f"  next                 keras-ae info {out}")


def _table(manifest: dict[str, Any]) -> str:
    """What the columns of a table were taken for."""
    from keras_ae.data import Schema

    table = manifest.get("table")
    schema = Schema.of(table) if table else Schema.of_numbers(manifest["columns"])
    left_out = f"; left out: {', '.join(manifest['dropped'])}" if manifest["dropped"] else ""
    return schema.counts() + left_out


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
        fail(str(error), error.exit_code)
