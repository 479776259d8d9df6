"""The evidence that a model is good, or is not: NumPy arrays in, a dataclass out.

Knows nothing of Keras: the arrays may come from any model.
"""

from keras_ae.evaluation.factors import Disentanglement, disentanglement
from keras_ae.evaluation.novelty import Neighbours
from keras_ae.evaluation.numbers import Number
from keras_ae.evaluation.protocol import METRICS, evaluate
from keras_ae.evaluation.result import COLUMNS, LABELS, MEANINGS, Evaluation
from keras_ae.evaluation.verdict import Answer, Verdict, judge

__all__ = [
    "COLUMNS",
    "LABELS",
    "MEANINGS",
    "METRICS",
    "Answer",
    "Disentanglement",
    "Evaluation",
    "Neighbours",
    "Number",
    "Verdict",
    "disentanglement",
    "evaluate",
    "judge",
]
