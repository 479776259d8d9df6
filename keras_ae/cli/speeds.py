"""`bench`: how fast an artifact is here."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ae.cli.arguments import Artifact, Json
from keras_ae.cli.console import print_json, tensorflow_imported
from keras_ae.progress import stages


def bench(
    artifact: Artifact,
    as_json: Json = False,
    chart: Annotated[Path | None, typer.Option(help="Also draw a chart: .svg, .png or .pdf.")] = None,
    keras: Annotated[
        bool, typer.Option("--keras/--no-keras", help="Time Keras's predict too, where TensorFlow is installed.")
    ] = True,
    seconds: Annotated[float, typer.Option(min=0.01, help="For each figure.")] = 0.5,
) -> None:
    """Measure latency and throughput of every function.

    In every precision, and on every provider that starts here.
    """
    import importlib.util

    from keras_ae import bench

    if chart is not None:
        bench.check_chart(chart)
    others: dict[str, bench.Way] = {}
    if keras and importlib.util.find_spec("tensorflow") is not None:
        with tensorflow_imported("Timing Keras"):
            from keras_ae.storage import load
        others["Keras predict"] = bench.keras_way(load(artifact))
    with stages() as progress:
        speeds = bench.measure(artifact, others, seconds, lambda _, share: progress("measuring", share))
    if chart is not None:
        bench.chart(speeds, chart, f"{artifact.name} on {bench.machine()}")
    if as_json:
        return print_json({"artifact": str(artifact), "machine": bench.machine(), "speeds": [vars(s) for s in speeds]})
    _show_speeds(artifact, speeds)


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
