"""Calls to etcd over HTTP: attempts until one is answered, one member after another.

Only what may be asked twice goes through here: all that :class:`~laminar.cluster.etcd.EtcdKv`
asks for is the same when it is done again.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import count
from types import TracebackType
from typing import Self

import anyio
import httpx2

from laminar.backoff import backoff_s
from laminar.cluster.etcd.messages import TRANSIENT, Json, parse
from laminar.cluster.etcd.statistics import EtcdCounters
from laminar.config import EtcdConfig
from laminar.errors import KvRefusedError, KvUnavailableError, ProtocolError


class EtcdClient:
    """The members of one etcd cluster."""

    def __init__(
        self,
        config: EtcdConfig,
        transport: httpx2.AsyncBaseTransport | None,
        rng: random.Random,
        counters: EtcdCounters,
    ) -> None:
        self._config = config
        self._rng = rng
        self._counters = counters
        self._member = 0
        # Nothing ambient: no proxy, no credentials of the environment.
        self._http = httpx2.AsyncClient(
            transport=transport,
            trust_env=False,
            headers={"accept-encoding": "identity"},
            timeout=config.request_timeout_s,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4),
        )

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._http.__aexit__(kind, error, trace)

    async def pause(self, attempt: int) -> None:
        """Wait after failed attempt number ``attempt`` (from 0)."""
        config = self._config
        pause_s = backoff_s(attempt, config.backoff_initial_s, config.backoff_max_s, self._rng)
        await anyio.sleep(pause_s)

    async def call(self, method: str, request: Json) -> Json:
        """Return what etcd answers to ``request``.

        Raises :class:`~laminar.errors.KvUnavailableError` when no attempt succeeds in time,
        :class:`~laminar.errors.KvRefusedError` when etcd says no for good, and
        :class:`~laminar.errors.ProtocolError` when the answer makes no sense.
        """
        last: Exception | None = None
        with anyio.move_on_after(self._config.request_timeout_s):
            for attempt in count():
                try:
                    async with self._attempt(method, request, None) as response:
                        return parse(await self._body(response))
                except KvUnavailableError as error:
                    last = error
                await self.pause(attempt)
        raise KvUnavailableError(
            f"etcd at {', '.join(self._config.endpoints)} did not answer {method} within "
            f"{self._config.request_timeout_s:g} s"
            + (f"; the last attempt: {last}" if last else "")
        ) from last

    @asynccontextmanager
    async def stream(
        self, method: str, request: Json, idle_s: float
    ) -> AsyncIterator[AsyncIterator[Json]]:
        """Make one attempt, and iterate over the answers.

        The iterator ends when etcd ends it, or says nothing for ``idle_s``.
        Raises as :meth:`call` does.
        """
        async with (
            self._attempt(method, request, idle_s) as response,
            _chunks(response) as chunks,
            aclosing(self._messages(chunks)) as messages,
        ):
            yield messages

    async def _messages(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[Json]:
        pending = bytearray()
        try:
            async for chunk in chunks:
                # Only what has just come can end a line that went on for long.
                *lines, rest = chunk.split(b"\n")
                for line in lines:
                    pending += line
                    self._check_size(len(pending))
                    if pending:
                        yield parse(pending)
                    pending.clear()
                pending += rest
                self._check_size(len(pending))
        except httpx2.ReadTimeout:
            return

    @asynccontextmanager
    async def _attempt(
        self, method: str, request: Json, idle_s: float | None
    ) -> AsyncIterator[httpx2.Response]:
        """One request to one member; the next attempt goes to another one if it fails."""
        endpoint = self._config.endpoints[self._member % len(self._config.endpoints)]
        timeout_s = self._config.request_timeout_s
        timeout = httpx2.Timeout(timeout_s, read=timeout_s if idle_s is None else idle_s)
        try:
            async with self._http.stream(
                "POST",
                f"{endpoint.rstrip('/')}/v3/{method}",
                content=json.dumps(request).encode(),
                timeout=timeout,
            ) as response:
                if response.status_code != 200:
                    await self._refuse(response)
                yield response
        except httpx2.TransportError as error:
            self._next_member()
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise KvUnavailableError(f"{endpoint}: {what}") from error
        except KvRefusedError as error:
            if error.code not in TRANSIENT:
                raise
            self._next_member()
            raise KvUnavailableError(f"{endpoint}: {error}") from error

    async def _refuse(self, response: httpx2.Response) -> None:
        body = await self._body(response)
        try:
            parse(body)
        except ProtocolError:
            if response.status_code < 500:
                raise
        # A proxy in between, or a member that is only starting.
        raise KvRefusedError(14, f"HTTP status {response.status_code} for {response.url.path}")

    async def _body(self, response: httpx2.Response) -> bytearray:
        body = bytearray()
        async with _chunks(response) as chunks:
            async for chunk in chunks:
                body += chunk
                self._check_size(len(body))
        return body

    def _check_size(self, size: int) -> None:
        if size > self._config.response_bytes_max:
            raise ProtocolError(
                "etcd",
                f"an answer of etcd is larger than {self._config.response_bytes_max} bytes; "
                "raise response_bytes_max or lower page_keys_max",
            )

    def _next_member(self) -> None:
        self._member += 1
        self._counters.attempts_failed += 1


@asynccontextmanager
async def _chunks(response: httpx2.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """What is received, piece by piece, to be left at any time.

    The generators inside httpx2 end only from the innermost outwards: they are left to the
    garbage collector, of which trio complains, unless reading itself is what ends.
    """
    chunks = response.aiter_raw()
    try:
        yield chunks
    finally:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in chunks:
                pass
