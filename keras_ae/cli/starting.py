"""What one asks first: `init`, `recipes`, `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_ae.cli.arguments import Json
from keras_ae.cli.console import print_json, tensorflow_imported
from keras_ae.quiet import greetings_kept_back


def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write a small project that works.

    It has data, a config file, a Makefile and a test.

    Example: keras-ae init orders && make -C orders all test
    """
    from keras_ae.starter import start_project

    for path in start_project(folder):
        typer.echo(str(path))
    typer.echo(f"next: make -C {folder} all test")


def recipes(as_json: Json = False) -> None:
    """List the families of autoencoder, and the paper of each."""
    from keras_ae.recipes import RECIPES

    if as_json:
        with tensorflow_imported("The options of recipes"):
            from keras_ae import families  # noqa: F401
        rows = {name: {"summary": r.summary, "paper": r.paper, "options": r.options} for name, r in RECIPES.items()}
        return print_json(rows)
    width = max(map(len, RECIPES))
    for name, entry in RECIPES.items():
        typer.echo(f"{name:<{width}} {entry.summary} ({entry.paper})")


def doctor(
    tensorflow: Annotated[
        bool, typer.Option("--tensorflow/--no-tensorflow", help="Import TensorFlow, if it is there, for its devices.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Print versions, devices, providers, and what is missing."""
    from keras_ae.doctor import diagnose

    with greetings_kept_back():
        found = diagnose(tensorflow)
    if as_json:
        return print_json(found.to_dict())
    typer.echo(str(found))
