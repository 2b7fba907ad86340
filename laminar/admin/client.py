"""Asking a node's admin server: what the commands for operators are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from laminar.errors import (
    AdminRefusedError,
    ClosedError,
    PeerLostError,
    PeerUnreachableError,
    ProtocolError,
)
from laminar.net.address import parse_addr

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 30.0
"""Longest time that a node may say nothing; a watch has a heartbeat more often than that."""

ANSWER_BYTES_MAX: Final = 1 << 28
LINE_BYTES_MAX: Final = 1 << 20
"""Most bytes of one change in a watch; a value of the KV has no more than 64 KiB."""


class AdminClient:
    """Talks to the admin server of one node, on asyncio.

    ::

        async with AdminClient("127.0.0.1:7947") as admin:
            members = await admin.get("/members")

    Everything raises :class:`~laminar.errors.PeerUnreachableError` when nobody answers,
    :class:`~laminar.errors.AdminRefusedError` when the node says no,
    :class:`~laminar.errors.PeerLostError` when it hangs up within an answer, and
    :class:`~laminar.errors.ProtocolError` when what answers is no Laminar node.
    """

    def __init__(self, addr: str) -> None:
        """``addr`` is ``host:port``.

        Raises :class:`~laminar.errors.ConfigError` when it is not of that form.
        """
        parse_addr(addr)
        self._addr = addr
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise ClosedError("an AdminClient is entered only once")
        timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S
        )
        self._session = aiohttp.ClientSession(
            f"http://{self._addr}",
            timeout=timeout,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **parameters: str) -> Any:
        """What the node answers to a GET of ``path``, from JSON."""
        async with self._asking("GET", path, parameters) as response:
            return _decode(await self._body(response))

    @asynccontextmanager
    async def follow(
        self, path: str, *, method: str = "GET", **parameters: str
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """The lines that the node answers with as they come, each from JSON."""
        async with self._asking(method, path, parameters) as response:
            yield self._lines(response)

    @asynccontextmanager
    async def _asking(
        self, method: str, path: str, parameters: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise ClosedError("an AdminClient works inside its `async with` block")
        try:
            asking = self._session.request(method, path, params=parameters, allow_redirects=False)
            async with asking as response:
                if response.status != 200:
                    raise self._refusal(response.status, await self._body(response))
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = getattr(error, "os_error", None) or "it took too long"
            raise PeerUnreachableError(
                f"no node's admin server answers at {self._addr} ({reason}): is `laminar node` "
                "running there, and is --admin the address that it names when it starts?"
            ) from error
        except asyncio.TimeoutError as error:  # noqa: UP041 - aiohttp's are of this one
            raise PeerLostError(
                f"the node at {self._addr} has said nothing for {ANSWER_TIMEOUT_S:g} s"
            ) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise PeerLostError(f"the node at {self._addr} hung up") from error
        except aiohttp.ClientError as error:
            raise _stranger("is --admin what the node calls its admin server?") from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise ProtocolError("admin", f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        return bytes(body)

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
        rest = bytearray()
        async for chunk in response.content.iter_any():
            rest += chunk
            *lines, last = rest.split(b"\n")
            rest = bytearray(last)
            for line in filter(None, lines):
                yield _decode(line)
            if len(rest) > LINE_BYTES_MAX:
                raise _stranger("a line without an end")

    def _refusal(self, status: int, body: bytes) -> AdminRefusedError | ProtocolError:
        try:
            answer = _decode(body)
        except ProtocolError as error:
            return error
        reason = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(reason, str):
            return _stranger(f"status {status}")
        return AdminRefusedError(status, reason, answer)


def _decode(body: bytes | bytearray) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _stranger(f"{error}") from error


def _stranger(detail: str) -> ProtocolError:
    return ProtocolError("admin", f"what answers there is no Laminar node's admin server: {detail}")
