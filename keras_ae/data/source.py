"""What there is to train on."""

from dataclasses import dataclass

from keras_ae.data.streams import Stream
from keras_ae.data.tables import Rows


@dataclass(frozen=True)
class Source:
    """Observations to train on.

    Attributes:
        name: for the manifest.
        rows: to be split.
        test: rows that the source itself keeps for testing, or None.
        labels: the column that labels were taken from, or None.
        stream: what is read anew each epoch, where that is not in memory; `rows` is a sample of it then.
    """

    name: str
    rows: Rows
    test: Rows | None = None
    labels: str | None = None
    stream: Stream | None = None
