"""``Admin``: a node's HTTP server for operators."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self, cast

import anyio
from aiohttp import web

from laminar.admin.guard import guard
from laminar.admin.routes import Routes
from laminar.admin.watchers import Watchers
from laminar.config import ADMIN_ADDR, AdminConfig
from laminar.errors import ClosedError, ConfigError
from laminar.net.address import format_addr, parse_addr, reaches_beyond_loopback
from laminar.net.tcp import listening_socket
from laminar.node.node import Node

_BUSY_BODY: Final = b'{"error":"there are too many connections already"}\n'
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_BUSY_BODY), _BUSY_BODY)


class Admin:
    """Serves what a node knows, over HTTP.

    ::

        async with Node(config) as node, Admin(node) as admin:
            print(f"http://{admin.local_addr}/")

    Only this machine can connect unless ``config`` says otherwise, and only this one can replace
    keys in any case. It runs on asyncio, with or without uvloop.
    """

    def __init__(
        self, node: Node, listen: str = ADMIN_ADDR, *, config: AdminConfig | None = None
    ) -> None:
        """Prepare to serve ``node`` at ``listen`` (``host:port``; port 0 is chosen).

        Raises :class:`~laminar.errors.ConfigError` when that is no address.
        """
        parse_addr(listen)
        self._node = node
        self._listen = listen
        self._config = config or AdminConfig()
        self._watchers = Watchers(self._config)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._local_addr = ""

    async def __aenter__(self) -> Self:
        """Begin to serve.

        Raises :class:`~laminar.errors.StreamBrokenError` when the address cannot be bound, and
        :class:`~laminar.errors.ConfigError` when other machines can reach it and nothing allows
        that, or the event loop is not asyncio's.
        """
        if self._runner is not None:
            raise ClosedError("an Admin is entered only once")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise ConfigError("the admin server runs on asyncio only, not on trio") from error
        sock = await listening_socket(self._listen)
        try:
            self._local_addr = format_addr(*sock.getsockname()[:2])
            local = not reaches_beyond_loopback(self._local_addr)
            if not local and not self._config.allow_remote:
                raise ConfigError(
                    f"{self._listen} lets other machines read all that {self._node.id} knows: "
                    "listen at 127.0.0.1, or set AdminConfig.allow_remote=True if they may"
                )
            self._runner = runner = self._make_runner(local)
            await runner.setup()
            self._server = await loop.create_server(self._accept, sock=sock)
        except BaseException:
            sock.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._watchers.close()
        if self._runner is not None:
            with anyio.CancelScope(shield=True):  # it takes close_timeout_s at most
                await self._runner.cleanup()

    @property
    def local_addr(self) -> str:
        """Where it listens, ``host:port``."""
        if self._server is None:
            raise ClosedError("an Admin listens inside its `async with` block")
        return self._local_addr

    def _make_runner(self, local: bool) -> web.AppRunner:
        app = web.Application(
            middlewares=[guard(local=local)],
            client_max_size=self._config.request_bytes_max,
        )
        app.add_routes(Routes(self._node, self._watchers).table())
        return web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,  # a watcher that goes away is noticed at once
            keepalive_timeout=self._config.idle_timeout_s,
            shutdown_timeout=self._config.close_timeout_s,
        )

    def _accept(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        server = self._runner.server if self._runner is not None else None
        if server is None or len(server.connections) >= self._config.connections_max:
            return _TurnedAway()
        return server()


class _TurnedAway(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.WriteTransport", transport)  # uvloop's has no such base
        stream.write(_BUSY)
        stream.close()
