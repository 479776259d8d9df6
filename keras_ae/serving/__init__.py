"""The HTTP server: artifacts by TF Serving's REST API and by the Open Inference Protocol v2, on ONNX Runtime alone.

versions.py   which artifacts are loaded, and their new versions
calls.py      from what a request gives to what a function gives
batching.py   small calls that come together
rest.py       TF Serving's JSON
v2.py         the Open Inference Protocol's JSON and binary tensors
app.py        who may enter, where it is computed, what is counted and logged
pages.py      the OpenAPI document and a page of it
server.py     uvicorn around all that
"""

from keras_ae.serving.app import Limits
from keras_ae.serving.server import make_server, serve
from keras_ae.serving.versions import Models

__all__ = ["Limits", "Models", "make_server", "serve"]
