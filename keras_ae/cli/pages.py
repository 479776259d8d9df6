"""Artifacts over HTTP, for programs and for people: `serve`, `explore`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ae.cli.arguments import Artifact, Precision, Providers, providers_of
from keras_ae.errors import importing


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
    provider: Providers = None,
    body_bytes: Annotated[int, typer.Option(min=1, help="Of one request, at most.")] = 8 << 20,
    rows: Annotated[int, typer.Option(min=1, help="Of one request, at most.")] = 4096,
    requests: Annotated[int, typer.Option(min=1, help="At once; more are told to come again.")] = 256,
    seconds: Annotated[float, typer.Option(min=0.01, help="To receive a request, and to compute it.")] = 30.0,
    threads: Annotated[int | None, typer.Option(min=1, help="That compute. [default: one a processor]")] = None,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log every request, not only those that fail.")
    ] = False,
) -> None:
    """Serve artifacts over HTTP.

    By TF Serving's REST API and the Open Inference Protocol v2, without TensorFlow. A new version, or an artifact that
    is replaced, is loaded while requests go on. Ctrl-C or SIGTERM finishes what is being computed.
    """
    with importing("The server", "serve"):
        from keras_ae import serving
    limits = serving.Limits(body_bytes, rows, requests, seconds, threads or os.cpu_count() or 1)
    models = serving.Models(artifacts, keep, precision or "float32", providers=providers_of(provider))
    serving.serve(models, host, port, limits, log_requests)


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
    """A page that runs the model in the browser.

    With its latent map, sliders, walks, neighbours, and your own rows.
    """
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
        return f"with {page.points:,} of the model's own samples and no training rows ({page.note})"
    rows = "the rows themselves" if page.rows == page.points else f"{page.rows:,} of the rows themselves"
    return f"with z of {page.points:,} training rows and {rows}; --no-rows leaves them out"
