"""Those who follow a node's changes over HTTP: one line of JSON for each (NDJSON)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

import anyio
import msgspec
from aiohttp import web

from laminar.config import AdminConfig
from laminar.errors import ClosedError

T = TypeVar("T")

HEARTBEAT: Final = b"\n"


class Watchers:
    """The requests that follow something now.

    What waits for a slow one is one event for each key, as with every watch of a node, beside
    what the connection buffers. One that takes nothing at all is hung up on.
    """

    def __init__(self, config: AdminConfig) -> None:
        self._config = config
        self._scopes: set[anyio.CancelScope] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._scopes)

    async def serve(
        self, request: web.Request, watch: AbstractAsyncContextManager[AsyncIterator[T]]
    ) -> web.StreamResponse:
        """Answer ``request`` with every change that ``watch`` tells, until either side goes."""
        if len(self._scopes) >= self._config.watchers_max:
            raise web.HTTPServiceUnavailable(
                reason=f"there are {self._config.watchers_max} watchers already"
            )
        response = web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
        )
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                async with watch as changes:
                    await response.prepare(request)
                    await self._tell(request, response, changes)
        except ConnectionResetError:
            return response  # the watcher has gone
        finally:
            self._scopes.discard(scope)
        return response

    def close(self) -> None:
        """End all answers."""
        for scope in self._scopes:
            scope.cancel()

    async def _tell(
        self, request: web.Request, response: web.StreamResponse, changes: AsyncIterator[T]
    ) -> None:
        while True:
            line = HEARTBEAT
            with anyio.move_on_after(self._config.watch_heartbeat_s):
                try:
                    line = msgspec.json.encode(await anext(changes)) + b"\n"
                except (ClosedError, StopAsyncIteration):
                    return  # the node was closed, or there is nothing more to tell
            with anyio.move_on_after(self._config.watch_stall_s) as patience:
                await response.write(line)
            if patience.cancelled_caught:
                if request.transport is not None:
                    request.transport.abort()
                return
