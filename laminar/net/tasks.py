"""Leaving a task group that an object owns without wrapping its user's exception."""

from __future__ import annotations

from contextlib import AsyncExitStack


async def leave(stack: AsyncExitStack, error: BaseException | None) -> None:
    """Leave the contexts of ``stack`` from an ``__aexit__`` that was given ``error``.

    A task group would wrap an ordinary exception of the user's block in an exception group;
    it is not the group's business, so it is not told. Cancellation is.
    """
    if error is None or isinstance(error, Exception):
        await stack.__aexit__(None, None, None)
    else:
        await stack.__aexit__(type(error), error, error.__traceback__)
