"""Leaving the contexts that an object owns from its own ``__aexit__``."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio


async def leave(stack: AsyncExitStack, error: BaseException | None) -> None:
    """Leave the contexts of ``stack``, a task group among them, from an ``__aexit__``.

    The group would wrap an exception of the user's block in an exception group; ``error`` is not
    the group's business, so it is not told. Cancellation is.
    """
    if error is not None and _is_cancellation(error):
        await leave_with(stack, error)
    else:
        await stack.__aexit__(None, None, None)


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


def _is_cancellation(error: BaseException) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(cancelled) is not None
    return isinstance(error, cancelled)
