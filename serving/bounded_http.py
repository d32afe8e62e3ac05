"""Bounded HTTP: uvicorn's HTTP/1.1 protocol with limits on what one peer, and all together, may hold of a worker.

httptools has no limits of its own. Here are those on the bytes and the fields of a head, the bytes of a body and of all
bodies, the seconds that either may take to arrive, and the sockets. What is over one gets a status, one sentence and a
count in /metrics, and its connection ends.
"""

import asyncio
from asyncio import TimerHandle
from typing import TYPE_CHECKING, Any, Literal

import uvloop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving import refusals
from serving.routes.predict import BODY_BYTES

if TYPE_CHECKING:
    from serving.service import Service

CONNECTIONS = 512
"""Sockets of one worker at a time; one more is answered 503."""
HEAD_BYTES = 32 * 2**10
HEAD_FIELDS = 100
HEAD_SECONDS = 10.0
"""From the first byte of a head, or from the connection, to its last."""
BODY_SECONDS = 30.0
SMALL_BODY_BYTES = 2**16
"""What any request may send whatever the others do: uvicorn holds as much unread."""
ALL_BODIES_BYTES = 10 * BODY_BYTES
"""Of all bodies larger than that which arrive or are worked on at one time."""
PIPELINED = 16
"""Requests that wait on one connection for the answer to the one before; one more ends it after what was asked."""
UNREAD_SECONDS = 30
"""How long an answer may lie here that its peer does not take; the kernel then ends the connection."""
LINGER_SECONDS = 1.0
"""How long what a refused peer still sends is thrown away, so that it reads its answer before the connection ends."""

_Part = Literal["head", "body"]


class Loop(uvloop.Loop):
    """The event loop. A TLS handshake has as long as a head: until it is over, its socket is none of the connections
    that are bounded here."""

    async def create_server(self, *arguments: Any, **named: Any) -> Any:
        if named.get("ssl") is not None:
            named["ssl_handshake_timeout"] = HEAD_SECONDS
        return await super().create_server(*arguments, **named)


class _RefusedError(Exception):
    """Ends the parsing of a request that was refused."""


class BoundedHttp(HttpToolsProtocol):
    """One connection of a peer, within the limits."""

    _all_bodies = 0
    """Bytes over all connections of this process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._service: Service = self.app_state["service"]
        self._deadline: TimerHandle | None = None
        self._arriving: _Part | None = None
        self._in_head = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._refused = False
        self._answering: RequestResponseCycle | None = None
        """The request that is worked on, or was last."""
        self._arriving_body = False
        """Whether it is the body of ``cycle`` that arrives."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(503, f"This server holds {CONNECTIONS} connections already; try again later.")
        else:
            self._expect("head")
            self._limit_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self._free_body()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        began = self._in_head
        super().data_received(data)
        if began and self._in_head and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse_head()
        self._limit_time()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- its words are uvicorn's
        if not self._refused:
            self._refuse(400, "The request is not valid HTTP/1.1.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if len(self.pipeline) >= PIPELINED:
            self._refuse(
                503, "Too many requests were sent before the first was answered; send fewer at once."
            )
            raise _RefusedError
        self._expect("head")

    def on_headers_complete(self) -> None:
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD_BYTES or len(self.headers) > HEAD_FIELDS:
            self._refuse_head()
            raise _RefusedError
        if _content_length(self.headers) > BODY_BYTES:
            self._refuse_body()
            raise _RefusedError
        self._expect("body")
        super().on_headers_complete()
        self._arriving_body = True
        if self._service.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        BoundedHttp._all_bodies += len(body)
        if self._body_bytes > BODY_BYTES:
            self._refuse_body()
            raise _RefusedError
        if self._body_bytes > SMALL_BODY_BYTES and BoundedHttp._all_bodies > ALL_BODIES_BYTES:
            self._refuse(
                503,
                f"The requests that are being sent hold {ALL_BODIES_BYTES} bytes already; try again later.",
            )
            raise _RefusedError
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._arriving_body = False
        self._expect(None)
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._free_body()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Ends the connection when the server stops; a peer that has just connected may still send one request."""
        if self.cycle is None:
            self.loop.call_later(LINGER_SECONDS, self._end_unless_asked)
        else:
            super().shutdown()

    def _end_unless_asked(self) -> None:
        if self.cycle is None:
            self.transport.close()

    def _refuse_head(self) -> None:
        self._refuse(
            431,
            f"The head of the request is larger than {HEAD_BYTES} bytes or {HEAD_FIELDS} fields; send less.",
        )

    def _refuse_body(self) -> None:
        self._refuse(413, f"The body is larger than {BODY_BYTES} bytes; send less at once.")

    def _expect(self, part: _Part | None) -> None:
        self._end_deadline()
        self._arriving = part

    def _limit_time(self) -> None:
        """Starts the timer of a request that has arrived in part. Nearly all arrive at once and need none."""
        if self._arriving is not None and self._deadline is None and not self._refused:
            seconds = HEAD_SECONDS if self._arriving == "head" else BODY_SECONDS
            self._deadline = self.loop.call_later(seconds, self._too_slow, seconds, self._arriving)

    def _too_slow(self, seconds: float, part: _Part) -> None:
        self._refuse(
            408, f"The {part} of the request did not arrive within {seconds:g} seconds; send it at once."
        )

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _free_body(self) -> None:
        BoundedHttp._all_bodies -= self._body_bytes
        self._body_bytes = 0

    def _refuse(self, status: int, sentence: str) -> None:
        """Answers, and throws away what still comes until the peer has had time to read the answer.

        Where requests before it wait for their answers they get them, and the connection ends with the last of these:
        the peer would take this one for the first's.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._end_deadline()
        self._unset_keepalive_if_required()
        self._free_body()
        self._service.metrics.refusals.labels(status).inc()
        if (before := self._last_before()) is not None:
            before.keep_alive = False
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            # none before the first request's begins
            path = bytes(getattr(self, "url", b"")).decode("latin-1")
            content = refusals.body_at(path)(sentence, status)
            self.transport.write(_response(status, content, self.server_state.default_headers))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.body.clear()
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _last_before(self) -> RequestResponseCycle | None:
        """The last request before the one that arrives, if its answer is still to come."""
        refused = self.cycle if self._arriving_body else None
        if self.pipeline and self.pipeline[0][0] is refused:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._answering
        return None if last is None or last is refused or last.response_complete else last


def _content_length(headers: list[tuple[bytes, bytes]]) -> int:
    return max(
        (int(value) for name, value in headers if name == b"content-length" and value.isdigit()), default=0
    )


def _response(status: int, content: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    always = b"".join(b"%b: %b\r\n" % field for field in headers)
    length = b"content-length: %d\r\n" % len(content)
    own = refusals.headers_of(status) | {"content-type": "application/json", "connection": "close"}
    fields = "".join(f"{name.lower()}: {value}\r\n" for name, value in own.items()).encode()
    return STATUS_LINE[status] + always + length + fields + b"\r\n" + content
