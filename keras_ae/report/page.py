"""The page: the verdict, the numbers behind it, and pictures of what the model does."""

import html
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np

from keras_ae import runtime
from keras_ae.alarms import least_p_value
from keras_ae.data.splits import Splits
from keras_ae.evaluation import Evaluation
from keras_ae.evaluation.classification import expected_calibration_error
from keras_ae.evaluation.result import COLUMNS, LABELS, MEANINGS
from keras_ae.judging import Judged
from keras_ae.provenance import known_labels
from keras_ae.report import pictures
from keras_ae.report.observations import Observations
from keras_ae.report.worst import worst_rows
from keras_ae.views import plane

ALPHA = 0.01
_POINTS = 1_000
_SHOWN = 6
_LATENTS = 12


@dataclass(frozen=True)
class Page:
    """HTML without any request to elsewhere.

    Attributes:
        model: of the artifact.
        judged: what was found.
        name: of the artifact.
    """

    model: runtime.Model
    judged: Judged
    name: str

    @cached_property
    def _shown(self) -> Observations:
        return Observations(self.model, self.splits.train)

    @cached_property
    def _by_score(self) -> np.ndarray:
        """Test rows, the most usual first."""
        return np.argsort(self.model.score(self.judged.given.test)["score"], kind="stable")

    @property
    def splits(self) -> Splits:
        return self.judged.splits

    @property
    def samples(self) -> np.ndarray:
        return self.judged.samples

    @property
    def evaluation(self) -> Evaluation:
        return self.judged.evaluation

    def content(self) -> str:
        manifest = self.model.manifest
        style = files("keras_ae.report").joinpath("page.css").read_text(encoding="utf-8")
        sections = [
            self._verdict(),
            self._numbers(),
            self._training(),
            self._reconstructions(),
            self._samples(),
            self._nearest(),
            self._distances(),
            self._map(),
            self._traversals(),
            self._scores(),
            self._reliability(),
        ]
        facts = [f"recipe {manifest['recipe']}", f"{self.model.latent_dim} latents", f"source {manifest['source']}"]
        made = f"made by keras-ae {manifest['versions']['keras_ae']} on {manifest['created'][:10]}"
        title = f"{self.name}: report"
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_text(title)}</title><style>{style}</style></head><body><header><h1>{_text(title)}</h1>"
            f"<p>{_text(', '.join([*facts, made]))}</p></header><main>{''.join(sections)}</main></body></html>\n"
        )

    # What is said

    def _verdict(self) -> str:
        verdict = self.evaluation.verdict
        if verdict is None:
            return ""
        cards = [
            f'<div class="card {"yes" if answer.yes else "no"}"><h3>{title}: {"yes" if answer.yes else "no"}</h3>'
            f"<p>because {_text(answer.because)}</p></div>"
            for title, answer in (
                ("Samples look drawn from the data", verdict.drawn_from_data),
                ("Samples differ from the training rows", verdict.different_from_training),
            )
        ]
        return _section("Is the model good?", f'<div class="cards">{"".join(cards)}</div>')

    def _numbers(self) -> str:
        numbers, used, measured = self.evaluation.numbers, self.evaluation.columns, self.evaluation.measured
        head = "".join(f'<th scope="col">{_text(COLUMNS[column])}</th>' for column in used)
        rows = []
        for name in measured:
            cells = "".join(f"<td>{_cell(numbers[name].get(column))}</td>" for column in used)
            rows.append(f'<tr><th scope="row">{_text(LABELS[name])}</th>{cells}</tr>')
        body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        table = f'<div class="wide"><table>{body}</table></div>'
        terms = {**{column: COLUMNS[column] for column in used}, **{name: LABELS[name] for name in measured}}
        said = (f"<dt>{_text(label)}</dt><dd>{_text(MEANINGS[name])}</dd>" for name, label in terms.items())
        meanings = f'<h3>What they say</h3><dl class="meanings">{"".join(said)}</dl>'
        skipped = ", ".join(self.evaluation.skipped)
        note = "Below each value, its 95 % interval." + (f" Not measured here: {skipped}." if skipped else "")
        if not self.judged.all_rows:
            looked = f"{len(self.splits.train):,} training and {len(self.splits.test):,} test rows"
            note += f" Of {looked}, drawn by seed; `keras-ae report` looks at all."
        return _section("Numbers", table + meanings, note)

    def _training(self) -> str:
        history = dict(self.model.manifest.get("training", {}).get("history") or {})
        epochs = history.pop("epochs", 1)
        charts = []
        for name in (name for name in history if not name.startswith("val_")):
            both = {"training": history[name], "validation": history.get(f"val_{name}")}
            curves = {of: (np.linspace(1, epochs, len(v)).tolist(), v) for of, v in both.items() if v}
            charts.append(_figure(pictures.lines(curves, f"{name} by epoch", "epoch"), name))
        if not charts:
            return ""
        return _section("Training", _grid(charts, "charts"), "Each term of the loss by epoch, unweighted.")

    # What the model does with rows

    def _reconstructions(self) -> str:
        test, numbers = self.splits.test, self.judged.test_rows
        order = self._by_score
        middle = len(order) // 2
        count = min(_SHOWN, len(order))
        groups = {
            "best": order[:count],
            "median": order[middle - count // 2 : middle - count // 2 + count],
            "worst": order[::-1][:count],
        }
        parts = []
        for name, index in groups.items():
            rows, rebuilt = test[index], self.model.reconstruct(test[index])
            titles = [f"{name} test row {number}" for number in numbers[index]]
            pictured = [self._shown.pair(*of_row) for of_row in zip(rows, rebuilt, titles, strict=True)]
            parts.append(f"<h3>{name.capitalize()}</h3>{_grid(pictured, 'tiles')}")
        if not self._shown.is_image:
            parts.insert(0, pictures.legend(["input", "reconstruction"]))
        what = "input and reconstruction" + (", and the size of the error" if self._shown.is_image else "")
        return _section("Reconstructions", "".join(parts), f"Test rows by score: {what}. {self._shown.legend}")

    def _samples(self) -> str:
        if not self.model.classes:
            tiles = [self._shown.tile(x, f"sample {i}") for i, x in enumerate(self.samples[:24])]
            return _section("Samples", _grid(tiles, "tiles"), "The first ones drawn, none left out.")
        parts = []
        for name in self.model.classes[:20]:
            drawn = self.model.generate(8, name, seed=0)
            tiles = [self._shown.tile(x, f"sample of class {name}") for x in drawn]
            parts.append(f"<h3>{_text(name)}</h3>{_grid(tiles, 'tiles')}")
        return _section("Samples of each class", "".join(parts), "The first ones drawn, none left out.")

    def _nearest(self) -> str:
        close = self.evaluation.neighbours.get("model")
        if close is None:
            return ""
        order = np.argsort(close.distance, kind="stable")[: 2 * _SHOWN]
        tiles = [
            f'<div class="pair">{self._shown.tile(self.samples[close.rows[i]], "sample")}'
            f"{self._shown.tile(self.splits.train[close.index[i]], 'nearest training row')}"
            f"<small>{pictures.number(float(close.distance[i]))}</small></div>"
            for i in order
        ]
        note = "Samples nearest to a training row, left, beside that row, and their distance in scaled units."
        return _section("Nearest to the training rows", _grid(tiles, "tiles"), note)

    def _distances(self) -> str:
        close = self.evaluation.neighbours
        if "model" not in close:
            return ""
        values = {"samples": close["model"].distance, "held-out rows": close["held_out"].distance}
        chart = pictures.histograms(
            values, "Distances to the nearest training row", "distance to the nearest training row"
        )
        note = "Samples that were copied would lie at 0; samples that miss the data lie beyond real rows."
        return _section("Distances", _grid([_figure(chart, "share of rows")], "charts"), note)

    def _map(self) -> str:
        index = np.random.default_rng(0).permutation(len(self.splits.test))[:_POINTS]
        z = self.model.encode(self.splits.test[index]).reshape(len(index), -1)
        mean, components, share = plane(z)
        xy = (z - mean) @ components.T
        found = known_labels(self.splits, self.model.classes)
        if found is not None and len(found[0]) <= pictures.SERIES:
            names, by_split = found
            chart = pictures.points(xy, by_split["test"][index], names, "Latents of test rows, coloured by class")
        else:
            chart = pictures.points(xy, None, (), "Latents of test rows")
        along = f"{share[0]:.0%} and {share[1]:.0%}" if self.model.latent_dim > 1 else "all"
        note = f"Test rows on the first two principal components of z, which hold {along} of its variance."
        return _section("Latent map", _grid([_figure(chart, "")], "charts"), note)

    def _traversals(self) -> str:
        x = self.splits.test[self._by_score[len(self._by_score) // 2]]
        y = None
        if self.model.manifest.get("conditional"):
            y = int(self.model.classify(x[None]).argmax())
        grid = self.model.traverse(x, y=y)
        z = self.model.encode(self.splits.test[:_POINTS])
        widest = np.argsort(-z.reshape(len(z), -1).var(axis=0), kind="stable")[:_LATENTS]
        rows = []
        for i in widest:
            steps = "".join(self._shown.tile(step, f"latent {i}") for step in grid[i])
            rows.append(f'<div class="row"><span>z{i}</span>{steps}</div>')
        note = "The test row of median score, with one latent at a time from -2 to 2 standard deviations of samples."
        return _section("Traversals", "".join(rows), note)

    def _scores(self) -> str:
        scores, calibration = (
            self.model.score(rows) for rows in (self.judged.given.test, self.judged.given.calibration)
        )
        mark = None
        note = "Of test rows; higher is more anomalous."
        if "p_value" in scores and least_p_value(len(calibration["score"])) > ALPHA:
            note += f" No p-value is {ALPHA} or less with {len(calibration['score'])} calibration rows."
        elif "p_value" in scores:
            mark = float(np.quantile(calibration["score"], 1 - ALPHA, method="higher"))
            alarms = float(np.mean(scores["p_value"] <= ALPHA))
            note += f" The line is where the p-value is {ALPHA}: {alarms:.2%} of test rows lie beyond it."
        chart = pictures.histograms({"test rows": scores["score"]}, "Scores of test rows", "score", mark)
        figure = _grid([_figure(chart, "share of rows")], "charts")
        return _section("Anomaly scores", figure + worst_rows(self.model, self.judged, self._shown), note)

    def _reliability(self) -> str:
        found = known_labels(self.splits, self.model.classes) if self.model.classes else None
        if found is None or not (found[1]["test"] >= 0).any():
            return ""
        known = found[1]["test"] >= 0
        y, probability = found[1]["test"][known], self.model.classify(self.splits.test[known])
        confidence, right = probability.max(axis=1), probability.argmax(axis=1) == y
        bins = np.clip((confidence * 10).astype(int), 0, 9)
        filled = [i for i in range(10) if (bins == i).any()]
        measured = ([confidence[bins == i].mean() for i in filled], [right[bins == i].mean() for i in filled])
        chart = pictures.lines({"model": measured, "perfect": ([0, 1], [0, 1])}, "Accuracy by confidence", "confidence")
        error = expected_calibration_error(probability, y)
        note = f"Accuracy {right.mean():.2%} on {len(y):,} test rows; expected calibration error {error:.4f}, "
        note += "how far confidence is from accuracy in the mean."
        return _section("Are probabilities right?", _grid([_figure(chart, "accuracy")], "charts"), note)


def _section(title: str, body: str, note: str = "") -> str:
    return f"<section><h2>{title}</h2>{f'<p>{_text(note)}</p>' if note else ''}{body}</section>"


def _grid(parts: list[str], kind: str) -> str:
    return f'<div class="{kind}">{"".join(parts)}</div>'


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{f'<figcaption>{_text(caption)}</figcaption>' if caption else ''}{picture}</figure>"


def _cell(number: Any) -> str:
    if number is None:
        return ""
    value, _, interval = str(number).partition(" ")
    return f"{value}<small>{interval}</small>" if interval else value


def _text(text: str) -> str:
    return html.escape(str(text))
