"""Leaving a task group that an object owns without wrapping its user's exception."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio


async def leave(stack: AsyncExitStack, error: BaseException | None) -> None:
    """Leave the contexts of ``stack`` from an ``__aexit__`` that was given ``error``.

    A task group would wrap an exception of the user's block in an exception group; it is not
    the group's business, so it is not told. Cancellation is.
    """
    if error is not None and _is_cancellation(error):
        await stack.__aexit__(type(error), error, error.__traceback__)
    else:
        await stack.__aexit__(None, None, None)


def _is_cancellation(error: BaseException) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(cancelled) is not None
    return isinstance(error, cancelled)
