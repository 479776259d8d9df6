"""One page that says whether a model is good, for people who would rather look than read."""

from keras_ae.report.page import write_report

__all__ = ["write_report"]
