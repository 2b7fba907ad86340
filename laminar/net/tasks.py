"""Leaving a task group that an object owns without wrapping its user's exception."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

import anyio


async def leave(stack: AsyncExitStack, error: BaseException | None) -> None:
    """Leave the contexts of ``stack`` from an ``__aexit__`` that was given ``error``.

    A task group would wrap an exception of the user's block in an exception group; it is not
    the group's business, so it is not told. Cancellation is.
    """
    # When leaving has raised as well, that is on its way out. A stack which is told of another
    # exception links it to itself, and asyncio's task groups, which follow contexts, never end.
    handled = sys.exc_info()[1] or error
    if handled is not None and _is_cancellation(error) and _is_cancellation(handled):
        await stack.__aexit__(type(handled), handled, None)
    else:
        await stack.__aexit__(None, None, None)


def _is_cancellation(error: BaseException | None) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(cancelled) is not None
    return isinstance(error, cancelled)
