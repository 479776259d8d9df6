"""The application: who may enter, where a request is computed, what is counted and logged."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from keras_ae import __version__
from keras_ae.errors import InputError
from keras_ae.serving import pages, rest, v2
from keras_ae.serving.batching import Batches, Runs
from keras_ae.serving.versions import Models, NotServed

_INFERENCE = re.compile(
    r"/v1/models/(?P<rest>[^/:]+)(?:/versions/(?P<rest_version>[^/:]+))?:(?P<verb>\w+)"
    r"|/v2/models/(?P<v2>[^/]+)(?:/versions/(?P<v2_version>[^/]+))?/infer"
)
# A thread costs each request about 0.1 ms; what takes less than a few of that is computed on the event loop.
_AT_ONCE = 1e-3  # seconds
_SECONDS_PER_BYTE = 1e-8  # to read JSON into arrays
_SECONDS_PER_BYTE_OF_CELLS = 2e-7  # and words and dates into codes and days
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_LOG = logging.getLogger("keras_ae.serving")


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them at once, may take.

    Attributes:
        body_bytes: of one request; 413 past it.
        rows: of one request; 400 past it.
        requests: that are computed or wait at once; 429 past it.
        seconds: to receive a request, 408 past it, and to compute it, 504 past it.
        threads: that compute, each a request of its own.
    """

    body_bytes: int = 8 << 20
    rows: int = 4096
    requests: int = 256
    seconds: float = 30.0
    threads: int = 2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise InputError(f"`{name}` must be positive. Received: {value}.")


class _Refused(Exception):  # noqa: N818  (it is a status)
    """A request that gets no answer but this status."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Application:
    """An ASGI application over served models.

    Args:
        models: that are served.
        limits: of requests.
        reload_seconds: between two looks for new versions.
        log_requests: every one of them, not only those that fail.
        batches: what computes small calls.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits | None = None,
        reload_seconds: float = 1.0,
        log_requests: bool = False,
        batches: Runs | None = None,
    ) -> None:
        self.models = models
        self.limits = limits or Limits()
        self._reload_seconds = reload_seconds
        self._log_requests = log_requests
        self._pool = ThreadPoolExecutor(self.limits.threads, thread_name_prefix="compute")
        self._batches = batches or Batches()
        self._entered = 0
        self._refusals, self._next_refusal = 0, 0.0
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("model", "function", "protocol")
        self._requests = Counter(
            "keras_ae_requests", "Inference requests.", (*labels, "status"), registry=self.registry
        )
        self._rows = Counter("keras_ae_rows", "Rows computed.", labels, registry=self.registry)
        self._seconds = Histogram(
            "keras_ae_request_seconds",
            "From the request's head to its answer, where it was computed.",
            labels,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        in_flight = Gauge("keras_ae_requests_in_flight", "Requests being received or computed.", registry=self.registry)
        in_flight.set_function(lambda: self._entered)
        self._loads = Counter("keras_ae_reloads", "Changes of versions.", ("model", "event"), registry=self.registry)
        self._series: dict[tuple[str, str, str], tuple[Any, Any, Any]] = {}
        self._others = self._starlette()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Inference by its path; what is left by Starlette's routes."""
        found = _INFERENCE.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            return await self._others(scope, receive, send)
        await self._infer(found, scope, receive, send)

    async def _infer(self, found: re.Match[str], scope: Any, receive: Any, send: Any) -> None:
        started = time.perf_counter()
        status, content, headers, error = 200, b"", [(b"content-type", b"application/json")], ""
        protocol = "rest" if found["rest"] else "v2"
        where = ("", "", protocol)
        rows = 0
        try:
            if scope["method"] != "POST":
                raise _Refused(405, "Method not allowed: POST.", (b"allow", b"POST"))
            if self._entered >= self.limits.requests:
                raise _Refused(
                    429, f"At most {self.limits.requests} requests at once; try again.", (b"retry-after", b"1")
                )
            self._entered += 1
            try:
                version, read = self._reader(found, scope)
                body = await self._body(scope, receive)
                per_byte = _SECONDS_PER_BYTE_OF_CELLS if version.has_cells else _SECONDS_PER_BYTE
                is_small = len(body) * per_byte < _AT_ONCE
                call, write = read(body) if is_small else await self._in_thread(read, body)
                where, rows = (version.name, call.function, protocol), call.rows
                if call.seconds < _AT_ONCE:
                    content, json_length = write(await self._batches.run(call))
                else:
                    content, json_length = await self._in_thread(lambda: write(call.run()))
                if json_length is not None:
                    headers = [
                        (b"content-type", b"application/octet-stream"),
                        (v2.JSON_LENGTH, str(json_length).encode()),
                    ]
            finally:
                self._entered -= 1
        except _Left:
            status, error = 499, "the client left"
        except _Refused as refused:
            status, error, headers = refused.status, str(refused), [*headers, *refused.headers]
        except NotServed as missing:
            status, error = 404, str(missing)
        except InputError as wrong:
            status, error = 400, str(wrong)
        except Exception:
            _LOG.exception("request failed", extra={"path": scope["path"]})
            status, error = 500, "The request could not be computed; the server's log says more."
        if status != 499:
            content = rest.encoded({"error": error}) if error else content
            await send(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [*headers, (b"content-length", str(len(content)).encode())],
                }
            )
            await send({"type": "http.response.body", "body": content})
        self._record(where, status, rows, time.perf_counter() - started, scope["path"], error)

    def _reader(self, found: re.Match[str], scope: Any) -> tuple[Any, Callable[[bytes], tuple[Any, Any]]]:
        """The version that is asked for, and what makes a call, and the writer of its answer, of a body."""
        encoding = _header(scope, b"content-encoding")
        if encoding not in (None, b"identity"):
            raise _Refused(415, "The body must not be compressed.", (b"connection", b"close"))
        if found["rest"]:
            version = self.models.find(found["rest"], found["rest_version"])
            if found["verb"] != "predict":
                raise InputError(
                    "The method must be `predict`, and the function the request's `signature_name`. "
                    f"Received: {found['verb'][:80]!r}."
                )
            return version, partial(_rest, version, self.limits.rows)
        version, function = self.models.find_function(found["v2"], found["v2_version"])
        return version, partial(_v2, version, function, _header(scope, v2.JSON_LENGTH), self.limits.rows)

    async def _body(self, scope: Any, receive: Any) -> bytes:
        most = self.limits.body_bytes
        # What is not read must not be taken for the next request.
        too_large = _Refused(413, f"The body must have at most {most:,} bytes.", (b"connection", b"close"))
        length = _header(scope, b"content-length")
        if length is not None and int(length) > most:
            raise too_large
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Left
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise too_large
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await loop.run_in_executor(self._pool, function, *arguments)
        except TimeoutError:
            raise _Refused(504, f"The answer must be computed within {self.limits.seconds:g} s.") from None

    def _record(
        self, where: tuple[str, str, str], status: int, rows: int, seconds: float, path: str, error: str
    ) -> None:
        if status == 200:
            series = self._series.get(where)
            if series is None:
                series = self._requests.labels(*where, "200"), self._rows.labels(*where), self._seconds.labels(*where)
                self._series[where] = series
            series[0].inc()
            series[1].inc(rows)
            series[2].observe(seconds)
        else:
            self._requests.labels(*where, str(status)).inc()
        if status == 429 and not self._log_requests:
            self._log_refusal()
        elif error or self._log_requests:
            details = {"status": status, "path": path[:200], "rows": rows, "milliseconds": round(1e3 * seconds, 3)}
            level = logging.ERROR if status == 500 else logging.WARNING if error else logging.INFO
            _LOG.log(level, "request", extra={**details, **({"error": error[:500]} if error else {})})

    def _log_refusal(self) -> None:
        """Once a second, how many: a line each would take longer than the refusals."""
        self._refusals += 1
        if time.monotonic() >= self._next_refusal:
            _LOG.warning("too many requests", extra={"status": 429, "refused": self._refusals})
            self._refusals, self._next_refusal = 0, time.monotonic() + 1.0

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watcher.cancel()
            self._pool.shutdown(wait=True, cancel_futures=True)

    async def _watch(self) -> None:
        said: list[Any] = []
        while True:
            await asyncio.sleep(self._reload_seconds)
            try:
                events = await asyncio.to_thread(self.models.refresh)
            except Exception:
                # Whatever a disk can do to an artifact: what is loaded goes on being served, and the next look may do.
                _LOG.exception("looking for new versions failed")
                continue
            for event, details in events:
                self._loads.labels(details["model"], event).inc()
                if (event, details) not in said:  # what can't be loaded is tried again each time, and said once
                    _LOG.log(logging.WARNING if "error" in details else logging.INFO, event, extra=details)
            said = events

    def _starlette(self) -> Starlette:
        models = self.models

        def json(make: Callable[[Request], Any]) -> Callable[[Request], Any]:
            async def endpoint(request: Request) -> Response:
                return Response(rest.encoded(make(request)), media_type="application/json")

            return endpoint

        def version(request: Request) -> Any:
            return models.find(request.path_params["name"], request.path_params.get("version"))

        def status(request: Request) -> Any:
            asked = request.path_params.get("version")
            found = [version(request)] if asked else models.loaded[version(request).name].values()
            return {"model_version_status": [rest.status(one) for one in found]}

        def described(request: Request) -> Any:
            found = models.find_function(request.path_params["name"], request.path_params.get("version"))
            return v2.metadata(*found)

        def ready(request: Request) -> Any:
            found, function = models.find_function(request.path_params["name"], request.path_params.get("version"))
            return {"name": v2.metadata(found, function)["name"], "ready": True}

        def listed(_: Request) -> Any:
            return {"models": [name for model in models.loaded for name in v2.names(models.find(model))]}

        def indexed(_: Request) -> Any:
            newest = [models.find(model) for model in models.loaded]
            return [
                {"name": name, "version": one.number, "state": "READY", "reason": ""}
                for one in newest
                for name in v2.names(one)
            ]

        def metrics(_: Request) -> Response:
            return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})

        def page(_: Request) -> Response:
            policy = "default-src 'none'; style-src 'unsafe-inline'"
            return HTMLResponse(pages.html(models), headers={"content-security-policy": policy})

        about = {"name": "keras-ae", "version": __version__, "extensions": ["binary_tensor_data", "model_repository"]}
        both = ("", "/versions/{version}")
        return Starlette(
            routes=[
                Route("/v2/health/live", json(lambda _: {"live": True})),
                Route("/v2/health/ready", json(lambda _: {"ready": True})),
                *(Route(f"/v1/models/{{name}}{which}", json(status)) for which in both),
                *(
                    Route(f"/v1/models/{{name}}{which}/metadata", json(lambda r: rest.metadata(version(r))))
                    for which in both
                ),
                Route("/v2", json(lambda _: about)),
                Route("/v2/models", json(listed)),
                Route("/v2/repository/index", json(indexed), methods=["POST"]),
                *(Route(f"/v2/models/{{name}}{which}", json(described)) for which in both),
                *(Route(f"/v2/models/{{name}}{which}/ready", json(ready)) for which in both),
                Route("/metrics", metrics),
                Route("/openapi.json", json(lambda _: pages.openapi(models, self.limits.rows))),
                Route("/", page),
            ],
            exception_handlers={HTTPException: _http_error, NotServed: _not_served, Exception: _failed},
            lifespan=self._lifespan,
        )


class _Left(Exception):  # noqa: N818  (named for what it says)
    """The client closed the connection before its request was whole."""


def _rest(version: Any, most_rows: int, body: bytes) -> tuple[Any, Any]:
    call, by_rows = rest.read(version, body, most_rows)
    return call, lambda outputs: (rest.write(call, outputs, by_rows), None)


def _v2(version: Any, function: str, json_length: bytes | None, most_rows: int, body: bytes) -> tuple[Any, Any]:
    request = v2.Request(version, function, body, json_length, most_rows)
    return request.call, request.write


def _header(scope: Any, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


async def _http_error(_: Request, error: Any) -> Response:
    content = rest.encoded({"error": f"{error.detail}."})
    return Response(content, error.status_code, error.headers, "application/json")


async def _not_served(_: Request, error: Exception) -> Response:
    return Response(rest.encoded({"error": str(error)}), 404, media_type="application/json")


async def _failed(request: Request, _: Exception) -> Response:
    _LOG.error("request failed", extra={"path": request.url.path})
    return Response(
        rest.encoded({"error": "The server failed; its log says more."}), 500, media_type="application/json"
    )
