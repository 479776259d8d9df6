"""Arguments that commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    """Of ONNX graphs, beside float32."""

    int8 = "int8"
    float16 = "float16"


class Otherwise(StrEnum):
    """What to do about a row of a table that can't be used."""

    stop = "stop"
    skip = "skip"


class Engine(StrEnum):
    """What runs a function on the rows of files."""

    local = "local"
    ray = "ray"


Artifact = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an artifact.")]

Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="Rows: .npy, .npz, .csv, .parquet, .tfrecord or images; a folder or a quoted glob of such files.",
    ),
]

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="File to write: .npy, .npz, .csv or .parquet. [default: the screen, as .csv]",
        show_default=False,
    ),
]

OnError = Annotated[
    Otherwise, typer.Option("--on-error", help="A row of a table that can't be used: stop, or skip it and say so.")
]

EngineOf = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="local: this process. ray: the worker processes of a Ray cluster, .parquet in, OUT a folder of .parquet.",
    ),
]

Workers = Annotated[
    int | None, typer.Option(min=1, help="Of --engine ray. [default: one a processor but one]", show_default=False)
]

Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="COLUMN", help="Of --engine ray: a column that is written too; repeat."),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object last, and nothing else on stdout.")]

Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        help="Where it runs: cpu, cuda, tensorrt, openvino; repeat for an order. auto says its choice. [default: cpu]",
    ),
]


def providers_of(given: list[str] | None) -> list[str] | str | None:
    """As `runtime.load` takes them."""
    return "auto" if given == ["auto"] else given
