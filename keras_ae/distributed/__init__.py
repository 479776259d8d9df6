"""Beyond one machine, on Ray: `pip install 'keras-ae[ray]'`.

cluster.py    the Ray cluster that is used: one that runs, or one of this machine's processes
scoring.py    files of rows through an artifact, on Ray Data
fitting.py    training on Ray Train
tuning.py     a search for options on Ray Tune; telling.py, how far it is
serving.py    an artifact over HTTP, on Ray Serve
"""

from keras_ae.distributed.fitting import ray_fit
from keras_ae.distributed.scoring import run_files
from keras_ae.distributed.serving import serve_app
from keras_ae.distributed.tuning import Trial, tune

__all__ = ["Trial", "ray_fit", "run_files", "serve_app", "tune"]
