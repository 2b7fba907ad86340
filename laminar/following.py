"""Following what changes: an iterator that waits for news, and those who follow one state.

Whoever lags gets the newest state of each key that changed, not its history: what is kept
for a follower is bounded by the number of keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Generic, Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from laminar.errors import ClosedError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Follower(Generic[T]):
    """The iterator of one who follows. All calls come from one event loop."""

    def __init__(self, take: Callable[[], T | None]) -> None:
        """``take`` returns what is to be told next, or ``None`` while there is nothing."""
        self._take = take
        self._closed = False
        self._wake: anyio.Event | None = None

    def wake(self) -> None:
        """There may be something to tell."""
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def close(self) -> None:
        """End the iterator: whoever reads it gets :class:`~laminar.errors.ClosedError`."""
        self._closed = True
        self.wake()

    def __aiter__(self) -> Self:
        """An iterator is its own."""
        return self

    async def __anext__(self) -> T:
        """Wait for the next change. A cancelled call loses none."""
        # So nothing is awaited between taking a change and returning it.
        await checkpoint()
        while True:
            if self._closed:
                raise ClosedError("this watch is read after its `async with` block")
            change = self._take()
            if change is not None:
                return change
            if self._wake is None:
                self._wake = anyio.Event()
            await self._wake.wait()


class Followers(Generic[K, T]):
    """Those who follow the newest state of each key."""

    def __init__(self) -> None:
        self._followers: dict[Follower[T], dict[K, T]] = {}
        """With what each has yet to hear, the key that has waited longest first."""

    def changed(self, key: K, state: T) -> None:
        """The state of ``key`` is now ``state``."""
        for follower, pending in self._followers.items():
            pending[key] = state
            follower.wake()

    @asynccontextmanager
    async def follow(self, known: Mapping[K, T]) -> AsyncIterator[AsyncIterator[T]]:
        """Tell the states that are ``known``, then all changes."""
        pending = dict(known)
        follower = Follower(lambda: pending.pop(next(iter(pending))) if pending else None)
        self._followers[follower] = pending
        try:
            yield follower
        finally:
            del self._followers[follower]
            follower.close()
