"""Leaving the contexts that an object owns from its own ``__aexit__``."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

import anyio


async def leave(stack: AsyncExitStack, error: BaseException | None) -> None:
    """Leave the contexts of ``stack``, a task group among them, from an ``__aexit__``.

    The group would wrap an exception of the user's block in an exception group; ``error`` is not
    the group's business, so it is not told. Cancellation is.
    """
    # When leaving has raised as well, that is on its way out. A stack which is told of another
    # exception links it to itself, and asyncio's task groups, which follow contexts, never end.
    handled = sys.exc_info()[1] or error
    cancelled = _is_cancellation(error) and _is_cancellation(handled)
    await leave_with(stack, handled if cancelled else None)


async def leave_with(stack: AsyncExitStack, error: BaseException | None) -> None:
    """Leave the contexts of ``stack``, which are told of ``error``.

    :mod:`contextlib` may make an exception that a context raises again the context of itself.
    The next one who follows that chain to its end, such as another exit stack, never arrives.
    """
    try:
        if error is None:
            await stack.__aexit__(None, None, None)
        else:
            await stack.__aexit__(type(error), error, error.__traceback__)
    except BaseException as raised:
        if raised.__context__ is raised:
            raised.__context__ = None
        raise


def _is_cancellation(error: BaseException | None) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(cancelled) is not None
    return isinstance(error, cancelled)
