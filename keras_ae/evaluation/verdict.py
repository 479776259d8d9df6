"""Two plain answers: do samples look drawn from P_d, and are they different from X?

A number counts against the model where its 95 % interval lies wholly on the worse side of the interval of real rows.
Two intervals that just touch differ by 2.8 standard errors of their difference, which chance does, in one direction,
in 0.3 % of cases; with five numbers a perfect model fails in one case of a hundred or fewer. No threshold depends on
the data set.
"""

from dataclasses import dataclass

from keras_ae.evaluation.numbers import Number

Table = dict[str, dict[str, Number]]
"""Name of a number, then whose it is: `model`, `held_out`, `copies`, `baseline` or, of novelty, `left_out`."""

_REPEATS = 0.05
"""Where more training rows than this are copies of another one, five times what real rows are, X repeats itself."""

_LOWER_IS_REAL = {
    "c2st_auc": "a classifier tells samples from real rows with AUC",
    "frechet": "the Frechet distance is",
}
_HIGHER_IS_REAL = {
    "precision": "precision (samples where real rows are) is",
    "recall": "recall (real rows where samples are) is",
    "coverage": "coverage (real rows with a sample nearby) is",
}
_CLOSER = {
    "c_t": "C_T is",
    "nn_ratio": "the nearest-neighbour ratio is",
    "authenticity": "authenticity is",
}


@dataclass(frozen=True)
class Answer:
    """Yes or no, and why."""

    yes: bool
    because: str

    def __str__(self) -> str:
        return f"{'yes' if self.yes else 'no'}, because {self.because}"


@dataclass(frozen=True)
class Verdict:
    """Whether P_m is good: both answers are yes.

    Attributes:
        drawn_from_data: samples look drawn from P_d.
        different_from_training: samples are considerably different from X.
    """

    drawn_from_data: Answer
    different_from_training: Answer

    def __str__(self) -> str:
        return f"drawn from P_d: {self.drawn_from_data}\ndifferent from X: {self.different_from_training}"


def judge(numbers: Table, rows: int, who: str = "model") -> Verdict | None:
    """The verdict on `model` (or another column), or None where fidelity or novelty was not measured.

    Args:
        numbers: with `c2st_auc`, `frechet`, `precision`, `recall`, `coverage` and the novelty numbers.
        rows: samples compared; said in the answer, as few rows show gross differences only.
        who: the column to judge.
    """
    needed = {*_LOWER_IS_REAL, *_HIGHER_IS_REAL, *_CLOSER, "preference", "copied"}
    if not needed <= numbers.keys():
        return None
    return Verdict(_drawn(numbers, rows, who), _different(numbers, rows, who))


def _drawn(numbers: Table, rows: int, who: str) -> Answer:
    # Copies of training rows are real rows too: where training and held-out rows differ, that isn't the model's doing.
    real = ("held_out", "copies")
    against = [
        f"{meaning} {_beside(numbers[name], who, real)}"
        for name, meaning in {**_LOWER_IS_REAL, **_HIGHER_IS_REAL}.items()
        if (_above if name in _LOWER_IS_REAL else _below)(numbers[name], who, real)
    ]
    if against:
        return Answer(False, "; ".join(against))
    limit = max(numbers["c2st_auc"][column].bounds()[1] for column in real)
    return Answer(
        True,
        f"{rows} samples differ from real rows no more than real rows do: "
        f"classifier AUC {numbers['c2st_auc'][who]} (what {rows} rows allow: {limit:.3g}), "
        f"coverage {_beside(numbers['coverage'], who, real)}",
    )


def _different(numbers: Table, rows: int, who: str) -> Answer:
    # So are training rows that are left out of X, unless X repeats itself in a way that held-out rows don't.
    repeats = numbers["copied"]["left_out"].value > _REPEATS
    real = ("held_out",) if repeats else ("held_out", "left_out")
    closer = [f"{text} {_beside(numbers[name], who, real)}" for name, text in _CLOSER.items()
              if _below(numbers[name], who, real)]  # fmt: skip
    against = []
    if _above(numbers["copied"], who, real):
        against.append(
            f"{numbers['copied'][who].value:.1%} of samples are much closer to a training row than to any held-out row "
            f"(real rows: {' and '.join(format(numbers['copied'][column].value, '.1%') for column in real)})"
        )
    if closer and _above(numbers["preference"], who, real):
        against += closer
    if against:
        return Answer(False, "; ".join(against))
    if closer:
        # A smooth row is close to every row of its kind, trained on or not.
        return Answer(
            True,
            f"{'; '.join(closer)}, but {rows} samples are as close to rows that were not trained on: "
            f"preference for X {_beside(numbers['preference'], who, real)}",
        )
    return Answer(
        True,
        f"{rows} samples are no closer to X than real rows are: nearest-neighbour ratio "
        f"{_beside(numbers['nn_ratio'], who, real)}, authenticity {_beside(numbers['authenticity'], who, real)}",
    )


def _above(row: dict[str, Number], who: str, real: tuple[str, ...]) -> bool:
    return row[who].bounds()[0] > max(row[column].bounds()[1] for column in real)


def _below(row: dict[str, Number], who: str, real: tuple[str, ...]) -> bool:
    return row[who].bounds()[1] < min(row[column].bounds()[0] for column in real)


def _beside(row: dict[str, Number], who: str, real: tuple[str, ...]) -> str:
    return f"{row[who]} (real rows: {' and '.join(f'{row[column].value:.3g}' for column in real)})"
