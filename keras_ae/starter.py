"""A small project that works as it stands: data, a config file, a Makefile and a test."""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

from keras_ae.artifact import check_new

_ROWS = 600
_CONFIG = """\
# keras-ae fit --config fit.toml; what stands on the command line goes before what stands here.
source = "orders.csv"
out = "saved_models/orders"
seed = 0

# What columns are follows from their cells; where they don't say, say it here.
[schema]
zip = "categorical"
"""
_MAKEFILE = """\
# Fit where the data or the config changed, score new rows, look at the report, test.
MODEL := saved_models/orders/manifest.json

.PHONY: all test report clean

all: scores.csv

$(MODEL): orders.csv fit.toml
\tkeras-ae fit --config fit.toml

scores.csv: $(MODEL) new.csv
\tkeras-ae score saved_models/orders new.csv --out $@ --alpha 0.05

report: $(MODEL)
\t@echo saved_models/orders/report.html

test: $(MODEL)
\tpython -m unittest -q test_model

clean:
\trm -rf saved_models scores.csv
"""
_TEST = '''\
"""What must hold of the model before it goes anywhere. Runs without TensorFlow; pytest runs it, too."""

import csv
import unittest
from pathlib import Path

import numpy as np

from keras_ae import runtime

FOLDER = Path(__file__).parent


def read(name):
    with (FOLDER / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [row[column] for row in rows] for column in rows[0]}


class TestModel(unittest.TestCase):
    def setUp(self):
        self.model = runtime.load(FOLDER / "saved_models/orders")

    def test_normal_orders_raise_few_alarms(self):
        p_value = self.model.score(read("orders.csv"))["p_value"]
        self.assertLess(np.mean(p_value <= 0.05), 0.15)

    def test_an_order_that_does_not_fit_is_found(self):
        orders = read("new.csv")
        last = len(orders["amount"]) - 1  # was made up
        self.assertEqual(self.model.score(orders)["score"].argmax(), last)
'''
_KINDS = (("book", 15.0, 0.4, "yes"), ("garden", 60.0, 0.5, "no"), ("music", 400.0, 0.3, "yes"))


def start_project(folder: Path) -> list[Path]:
    """Writes the project into a new or empty folder, and returns its files.

    Raises:
        InputError: for a folder that holds something.
    """
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = _orders(random.Random(0))
    odd = {**rows[-1], "kind": "book", "amount": "950.00", "gift": "no"}
    written = [_table(folder / "orders.csv", rows[:_ROWS]), _table(folder / "new.csv", [*rows[_ROWS:], odd])]
    for name, text in (("fit.toml", _CONFIG), ("Makefile", _MAKEFILE), ("test_model.py", _TEST)):
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def _table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _orders(source: random.Random) -> list[dict[str, str]]:
    """Orders whose kind gives their amount and whether they are a gift; some cells are missing."""
    rows = []
    for _ in range(_ROWS + 10):
        kind, amount, spread, gift = source.choice(_KINDS)
        when = datetime(2025, 1, 6) + timedelta(minutes=source.randrange(200 * 24 * 60))
        rows.append(
            {
                "ordered": when.isoformat(timespec="minutes"),
                "kind": kind,
                "amount": f"{amount * source.lognormvariate(0.0, spread):.2f}",
                "gift": gift if source.random() < 0.9 else "no",
                "zip": source.choice(("10115", "20095", "80331")),
                "age": "" if source.random() < 0.1 else str(source.randrange(18, 90)),
            }
        )
    return rows
