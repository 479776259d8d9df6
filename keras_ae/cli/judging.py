"""Is the model good, and do new rows resemble those of training: `evaluate`, `report`, `monitor`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ae.cli.arguments import Artifact, Input, Json
from keras_ae.cli.console import print_json, tensorflow_imported
from keras_ae.errors import importing
from keras_ae.progress import stages

_DRIFTED = 3


def evaluate(
    artifact: Artifact,
    source: Annotated[
        str | None, typer.Argument(help="What it was trained on. [default: what its manifest names]")
    ] = None,
    max_rows: Annotated[int, typer.Option(min=10, help="Samples compared with as many rows, at most.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of samples, halves and intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Judge the model: do its samples look real, and are they new?

    Real is drawn from the data, and new different from the rows trained on. Each number stands beside the same for real
    held-out rows, copies of training rows, and PCA with a mixture.
    """
    nll = _nll_bound(artifact)
    with importing("Evaluation", "train"), stages() as progress:
        from keras_ae.judging import evaluate_artifact

        found = evaluate_artifact(artifact, source, max_rows, seed, progress, nll)
    if as_json:
        return print_json({"artifact": str(artifact), **found.to_dict()})
    typer.echo(str(found))


def report(
    artifact: Artifact,
    source: Annotated[
        str | None, typer.Argument(help="What it was trained on. [default: what its manifest names]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [default: DIR-report.html]")] = None,
    max_rows: Annotated[int, typer.Option(min=10, help="Samples compared with as many rows, at most.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of samples, halves and intervals.")] = 0,
) -> None:
    """Write one page: is the model good?

    With the numbers, and pictures of reconstructions, samples, latents and scores.
    """
    out = out or artifact.resolve().with_name(f"{artifact.resolve().name}-report.html")
    nll = _nll_bound(artifact)
    with importing("The report", "train"), stages() as progress:
        from keras_ae.report import write_report

        found = write_report(artifact, out, source, max_rows, seed, progress, nll)
    typer.echo(f"{out}\n{found.verdict}" if found.verdict else str(out))


def monitor(
    artifact: Artifact,
    rows: Input,
    level: Annotated[float, typer.Option(help="Chance of an alarm where nothing has changed.")] = 0.001,
    as_json: Json = False,
) -> None:
    """Compare new rows with those of training: have they changed?

    Looks at scores, columns and latents, and exits with 3 where they changed. The artifact keeps up to 1,000 rows for
    this that it was not trained on.
    """
    with importing("Monitoring", "train"):
        from keras_ae.monitoring import monitor_file

        drift = monitor_file(artifact, rows, level)
    if as_json:
        print_json({"artifact": str(artifact), **drift.to_dict()})
    else:
        typer.echo(str(drift))
    if drift.found:
        raise typer.Exit(_DRIFTED)


def _nll_bound(artifact: Path) -> Any:
    """From rows to a bound on -log p(x), where TensorFlow is installed and the model has one."""
    import importlib.util

    if importlib.util.find_spec("tensorflow") is None:
        return None
    with tensorflow_imported("The likelihood"):
        from keras_ae.likelihood import density_bound
        from keras_ae.storage import load
    return density_bound(load(artifact))
