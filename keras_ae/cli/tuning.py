"""`tune`: a search for options."""

from pathlib import Path
from typing import Annotated

import typer

from keras_ae.cli.arguments import Json
from keras_ae.cli.console import pairs_of, print_json, tensorflow_imported
from keras_ae.errors import InputError


def tune(
    source: Annotated[str, typer.Argument(help="As of `keras-ae fit`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the search: new, empty, or one to go on with.")],
    search: Annotated[
        list[str],
        typer.Option(
            "--search",
            metavar="NAME=VALUES",
            help="An option of `fit`, the recipe or the network: [1, 2, 3], LOW..HIGH or LOW..HIGH:log; repeat.",
        ),
    ],
    objective: Annotated[
        str, typer.Option(help="On validation rows: rmse, nll, c2st_auc, frechet, coverage, knn_accuracy, ...")
    ] = "rmse",
    trials: Annotated[int, typer.Option(min=1, help="Fits.")] = 20,
    workers: Annotated[
        int | None, typer.Option(min=1, help="At once. [default: one a processor]", show_default=False)
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="The same in each trial; repeat.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of what is drawn, and of each fit.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a search; what ended is not run again.")] = False,
    as_json: Json = False,
) -> None:
    """Search for the options of a fit.

    On a Ray cluster or on this machine; the best go to OUT/best.toml.

    Example: keras-ae tune digits --out search --search latent_dim=2..32 --search 'hidden=[[64],[256,64]]'
    """
    with tensorflow_imported("A search"):
        from keras_ae.distributed import tune as search_for
    spaces = pairs_of("--search", search)
    given = pairs_of("--option", option or ())
    taken = {"source", "folder", "search", "objective", "trials", "workers", "seed", "resume"} & set(given)
    if taken:
        raise InputError(f"`--option` must be of the fit. Received: {taken.pop()!r}.")
    done = search_for(source, out, spaces, objective, trials, workers, seed, resume, **given)
    if as_json:
        return print_json([vars(trial) for trial in done])
    for trial in done:
        options = ", ".join(f"{name}={value}" for name, value in trial.options.items())
        typer.echo(f"{'failed' if trial.value is None else format(trial.value, '.5g'):>10}  {options}")
    typer.echo(f"best: {out / 'best.toml'}; next: keras-ae fit --config {out / 'best.toml'} --out DIR")
