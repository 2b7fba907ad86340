"""Work that a signal may stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

EXIT_SIGNAL: Final = 128
"""Plus the number of the signal that stopped a command."""

REPEAT_S: Final = 0.25
"""Signals this close to the first are the same wish: `timeout` and supervisors send it twice."""

STOPPING: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


async def until_signal(
    work: Callable[[], Awaitable[None]], stop: Callable[[], None] | None = None
) -> int | None:
    """Run ``work`` until it is done; the first signal stops it, the second ends the process.

    ``stop`` makes work end that is not to be cancelled: what says goodbye needs to wait for it.
    Returns the number of the signal, or None when there was none.
    """
    stopped_by: int | None = None
    stopped_at = 0.0
    # What was ignored from the start, as nohup and shells do it, stays ignored.
    heeded = [it for it in STOPPING if signal.getsignal(it) != signal.SIG_IGN]

    async def watch(scope: anyio.CancelScope) -> None:
        nonlocal stopped_by, stopped_at
        with anyio.open_signal_receiver(*heeded) as signals:
            async for number in signals:
                now = anyio.current_time()
                if stopped_by is None:
                    stopped_by, stopped_at = number, now
                    (stop or scope.cancel)()
                elif now > stopped_at + REPEAT_S:  # asked twice: no cleaning up
                    os._exit(EXIT_SIGNAL + number)

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(watch, scope)
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - raised below, outside the group
                failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return stopped_by
