"""Hyper-parameter search on Ray Tune, by what the evaluation measures on rows that were not trained on."""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_ae.artifact import check_new, rmse
from keras_ae.distributed.cluster import cause, cluster, quiet, ray_of
from keras_ae.errors import InputError
from keras_ae.progress import Progress, silent
from keras_ae.runs import Run

OBJECTIVES = {
    "rmse": ("rmse_test", "reconstruction", "min"),
    "nll": ("nll", "likelihood", "min"),
    "c2st_auc": ("c2st_auc", "two_sample", "min"),
    "frechet": ("frechet", "frechet", "min"),
    "coverage": ("coverage", "manifolds", "max"),
    "knn_accuracy": ("knn_accuracy", "representation", "max"),
    "probe_accuracy": ("probe_accuracy", "representation", "max"),
}
"""By name: the number of the evaluation, the metric that measures it, and which end of it is better."""
BEST = "best.toml"
_ASKED = "search.json"
_RUNS = "trials"
_CHECKPOINTS = "checkpoints"
_RANGE = re.compile(r"(?P<low>[^.:]*(?:\.\d+)?[^.:]*)\.\.(?P<high>[^:]+?)(?P<log>:log)?")


@dataclass(frozen=True)
class Trial:
    """One fit of a search.

    Attributes:
        options: that were tried.
        value: of the objective on validation rows; None where the fit failed.
        error: why it failed, or None.
    """

    options: dict[str, Any]
    value: float | None
    error: str | None


def tune(
    source: str | Path,
    folder: str | Path,
    search: Mapping[str, Sequence[Any] | str],
    objective: str = "rmse",
    trials: int = 20,
    workers: int | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> list[Trial]:
    """Fits with options drawn by chance, on a Ray cluster, and compares them on the validation rows of the split.

    Test rows are not looked at: the figures of the artifact that is fitted with the best options are honest.

    Args:
        source: as of `keras_ae.fit`, by name or path; a path must lie where every machine sees it.
        folder: new or empty, or with `resume` that of a search that did not end. It holds Ray's experiment, and in the
            end `best.toml` for `keras-ae fit --config`.
        search: by option of `keras_ae.fit`, of the recipe or of the network: a list to choose from; "LOW..HIGH", whole
            numbers where both are; or "LOW..HIGH:log", uniform in the logarithm.
        objective: a key of `OBJECTIVES`.
        trials: how many.
        workers: at once; by default as many as the cluster has processors.
        seed: of the options that are drawn, and of each fit.
        resume: go on with a search: trials that ended are not run again, others go on from their checkpoints.
        progress: is told in a few words how many trials have ended, and the share done.
        **options: of `keras_ae.fit`, the same in each trial.

    Returns:
        The trials, the best first, those that failed last.

    Raises:
        InputError: for a search that makes no sense, another one than in the folder, or where every trial failed.
        MissingExtra: where `keras-ae[ray]` is not installed.
    """
    if objective not in OBJECTIVES:
        raise InputError(f"`objective` must be one of {', '.join(OBJECTIVES)}. Received: {objective!r}.")
    if trials < 1 or not search:
        raise InputError(
            f"A search must have a trial and an option. Received: {trials} trials of {len(search)} options."
        )
    both = set(search) & set(options)
    if both:
        raise InputError(f"An option is either searched or given. Received both of {both.pop()!r}.")
    library = ray_of("tune")
    space = {name: _domain(library, name, values) for name, values in search.items()}
    source = str(Path(source).resolve()) if Path(source).exists() else str(source)
    folder = Path(folder).resolve()
    fixed = {"source": source, "objective": objective, "seed": seed, "options": options}
    _check_folder(folder, {**fixed, "search": dict(search), "trials": trials}, resume)
    mode = OBJECTIVES[objective][2]
    from keras_ae.distributed.telling import Telling, told

    progress("starting Ray", None)
    with cluster():
        progress(f"searching in {trials} trials", 0.0)
        trainable = library.with_parameters(_trial, fixed={**fixed, "checkpoints": str(folder / _CHECKPOINTS)})
        runs = folder / _RUNS
        if resume and library.Tuner.can_restore(str(runs)):
            tuner = library.Tuner.restore(str(runs), trainable, resume_errored=True, param_space=space)
        else:
            tuner = library.Tuner(
                trainable,
                param_space=space,
                tune_config=library.TuneConfig(
                    metric="value",
                    mode=mode,
                    num_samples=trials,
                    search_alg=library.search.BasicVariantGenerator(random_state=seed, max_concurrent=workers or 0),
                ),
                run_config=library.RunConfig(
                    name=_RUNS, storage_path=str(folder), verbose=0, callbacks=[Telling(trials, objective, mode)]
                ),
            )
        with quiet("ray.tune"), told(progress):
            found = tuner.fit()
    done = [
        Trial(
            dict(one.config or {}),
            (one.metrics or {}).get("value"),
            None if one.error is None else str(cause(one.error)).strip().splitlines()[-1],
        )
        for one in found
    ]
    done.sort(key=lambda one: (one.value is None, (one.value or 0.0) * (1 if mode == "min" else -1)))
    if done[0].value is None:
        raise InputError(f"Some trial must end. Received: {len(done)} that failed, the first: {done[0].error}")
    with contextlib.suppress(OSError):
        (folder / _CHECKPOINTS).rmdir()  # those of trials that failed stay
    best = found.get_best_result()
    (folder / BEST).write_text(best.metrics["toml"], encoding="utf-8")
    return done


def _trial(config: dict[str, Any], fixed: dict[str, Any]) -> None:
    """What a worker runs."""
    from ray import tune

    tune.report(fit_trial(config, fixed, tune.get_context().get_trial_id()))


def fit_trial(config: Mapping[str, Any], fixed: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One fit, which goes on from its checkpoints where it was interrupted; they are removed when it ends.

    Args:
        config: options of this trial.
        fixed: `source`, `objective`, `seed` and `options` of all trials; `checkpoints` is the folder of theirs.
        name: of the trial.

    Returns:
        `value` of the objective, and `toml` for `keras-ae fit --config`.
    """
    import keras_ae
    from keras_ae.config import config_of

    run = Run(Path(fixed["checkpoints"]) / name)
    fitted = keras_ae.fit(fixed["source"], seed=fixed["seed"], test=True, resume=run, **fixed["options"], **config)
    found = {
        "value": _measured(fitted, fixed["objective"], fixed["seed"]),
        "toml": config_of({**fitted.manifest, "source": fixed["source"]}),
    }
    run.remove()
    return found


def _measured(fitted: Any, objective: str, seed: int) -> float:
    """The objective of a fit, with its validation rows as those held out."""
    from keras_ae.evaluation import evaluate
    from keras_ae.likelihood import density_bound
    from keras_ae.provenance import complete_labels

    name, metric, _ = OBJECTIVES[objective]
    if metric == "reconstruction":
        return rmse(fitted.manifest["metrics"], "validation")[0]
    if fitted.manifest.get("table") or fitted.manifest.get("sequences"):
        raise InputError(
            "The objective of a table with cells other than numbers, or of series of different lengths, is rmse. "
            f"Received: {objective}."
        )
    model, splits = fitted.model, fitted.splits
    labels = splits.labels
    held_out = replace(
        splits, test=splits.validation, labels=None if labels is None else {**labels, "test": labels["validation"]}
    )
    train, test = splits.train, splits.validation
    bound = density_bound(model) if metric == "likelihood" else None
    found = evaluate(
        train,
        test,
        model.generate(max(len(test), 1000), seed=seed) if metric in ("two_sample", "frechet", "manifolds") else None,
        latent_dim=model.latent_dim,
        z=(model.encode(train), model.encode(test)) if metric == "representation" else None,
        labels=complete_labels(held_out, model.classes),
        nll=None if bound is None else bound(test),
        metrics=[metric],
        seed=seed,
    )
    return float(found.numbers[name]["model"].value)


def _domain(library: Any, name: str, values: Any) -> Any:
    if isinstance(values, list | tuple) and values:
        return library.choice(list(values))
    found = _RANGE.fullmatch(values) if isinstance(values, str) else None
    try:
        low, high = (json.loads(found[end]) for end in ("low", "high")) if found else (None, None)
    except ValueError:
        low = high = None
    if found is None or not isinstance(low, int | float) or not isinstance(high, int | float) or not low < high:
        raise InputError(f"{name!r} must be searched in a list, LOW..HIGH or LOW..HIGH:log. Received: {values!r}.")
    if found["log"] and low <= 0:
        raise InputError(f"{name!r}: a logarithm needs a LOW above 0. Received: {values!r}.")
    if isinstance(low, int) and isinstance(high, int):
        return library.lograndint(low, high + 1) if found["log"] else library.randint(low, high + 1)
    return library.loguniform(low, high) if found["log"] else library.uniform(low, high)


def _check_folder(folder: Path, asked: dict[str, Any], resume: bool) -> None:
    """Raises InputError for a folder of something else; otherwise says there what is searched."""
    path = folder / _ASKED
    asked = json.loads(json.dumps(asked, default=repr))
    if resume and path.is_file():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in asked if asked[name] != theirs.get(name)]
        if differing:
            both = f"{differing[0]} {asked[differing[0]]!r}, there {theirs.get(differing[0])!r}"
            raise InputError(f"{folder} must be gone on with as it began. Received: {both}.")
        return
    check_new(folder, "; --resume goes on with a search")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asked), encoding="utf-8")
