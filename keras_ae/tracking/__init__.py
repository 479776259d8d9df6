"""Experiment tracking through its own libraries, none of which is needed: CSV, TensorBoard, MLflow.

tracker.py      what a tracker is told, and how one is named
to_csv.py  to_tensorboard.py  to_mlflow.py    one each
pyfunc.py       an artifact as MLflow loads it, without TensorFlow
"""
