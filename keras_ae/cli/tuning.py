"""`tune`: a search for options."""

from pathlib import Path
from typing import Annotated

import typer

from keras_ae.cli.arguments import Json
from keras_ae.cli.console import pairs_of, print_json
from keras_ae.errors import InputError, MissingExtra
from keras_ae.progress import stages


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
    import importlib.util

    from keras_ae.distributed import tune as search_for
    from keras_ae.distributed.tuning import BEST

    if importlib.util.find_spec("tensorflow") is None:  # which only those that fit import
        raise MissingExtra("A search", "train")
    spaces = pairs_of("--search", search)
    given = pairs_of("--option", option or ())
    taken = {"source", "folder", "search", "objective", "trials", "workers", "seed", "resume", "progress"} & set(given)
    if taken:
        raise InputError(f"`--option` must be of the fit. Received: {taken.pop()!r}.")
    with stages() as progress:
        done = search_for(source, out, spaces, objective, trials, workers, seed, resume, progress, **given)
    if as_json:
        return print_json([vars(trial) for trial in done])
    typer.echo(f"{out}: {len(done)} trials, the best first")
    for trial in done:
        options = ", ".join(f"{name}={value}" for name, value in trial.options.items())
        found = "failed" if trial.value is None else f"{objective} {trial.value:.5g}"
        typer.echo(f"  {found:<20} {options}" + (f": {trial.error}" if trial.error else ""))
    typer.echo(f"  {'best':<20} {out / BEST}")
    typer.echo(f"  {'next':<20} keras-ae fit --config {out / BEST} --out DIR")
