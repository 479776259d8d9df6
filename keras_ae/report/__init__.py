"""One page that says whether a model is good, for people who would rather look than read."""

from keras_ae.report.writing import REPORT, add_report, write_report

__all__ = ["add_report", "REPORT", "write_report"]
