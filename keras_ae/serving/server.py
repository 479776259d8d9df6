"""uvicorn around the application: sockets, patience, logs in JSON, and a graceful end."""

import asyncio
import gc
import json
import logging
import signal
import socket
import sys
from datetime import UTC, datetime
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keras_ae.errors import InputError
from keras_ae.serving.app import Application, Limits
from keras_ae.serving.versions import Models

_KEEP_ALIVE = 75  # seconds: longer than the 60 of usual proxies, which then are the ones to close
_OWN = frozenset(vars(logging.makeLogRecord({})))
_LOG = logging.getLogger("keras_ae.serving")


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, event, and what the record holds besides."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _OWN})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def make_server(application: Application, host: str = "127.0.0.1") -> uvicorn.Server:
    """A uvicorn server of an application; `server.run(sockets=[...])` serves."""
    seconds = application.limits.seconds
    config = uvicorn.Config(
        application,
        host=host,
        http=_patient(seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    return uvicorn.Server(config)


def serve(
    models: Models,
    host: str = "127.0.0.1",
    port: int = 8501,
    limits: Limits | None = None,
    log_requests: bool = False,
) -> None:
    """Serves until SIGTERM or Ctrl-C; what is being computed then is finished. Logs go to stderr.

    Raises:
        InputError: for an address that can't be bound.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise InputError(f"`host` and `port` must be free. Received: {host}:{port} ({error}).") from error
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("keras_ae.serving", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    with listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        served = [f"{name}/{number}" for name, versions in models.loaded.items() for number in versions]
        _LOG.info("serving", extra={"address": address, "models": served})
        server = make_server(Application(models, limits, log_requests=log_requests), host)
        # uvicorn has handlers of its own, and sends what they caught once more to these when all is finished.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        gc.freeze()  # what is loaded by now stays: a collection need not look at it while requests wait
        server.run(sockets=[listening])
    _LOG.info("stopped")


def _patient(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, but for clients that open a connection, or begin a request, and are not done in time."""

    class Patient(HttpToolsProtocol):
        _waiting: asyncio.TimerHandle | None = None
        _begun = _in_body = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._begun, self._in_body = True, False
            self._wait()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._in_body = True

        def on_message_complete(self) -> None:
            self._stop_waiting()
            self._begun = False
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._stop_waiting()
            self._waiting = self.loop.call_later(seconds, self._too_late)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()

        def _too_late(self) -> None:
            cycle = self.cycle
            # An answer to this request, or to the one before it, that is being written must not be written into.
            is_free = cycle is None or (not cycle.response_started if self._in_body else cycle.response_complete)
            if self._begun and is_free:
                self.transport.write(answer)
            self.transport.close()

    content = json.dumps({"error": f"The request must come within {seconds:g} s."}).encode()
    head = "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
    answer = f"{head}{len(content)}\r\n\r\n".encode() + content
    return Patient
