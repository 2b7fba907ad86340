"""Asking a node, and what becomes of errors and signals meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio

from laminar.admin.client import AdminClient
from laminar.cli.signals import EXIT_SIGNAL, until_signal
from laminar.cli.streams import complain, give_up
from laminar.cli.text import one_line
from laminar.errors import ConfigError, LaminarError

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1


def ask(addr: str, question: Callable[[AdminClient], Awaitable[None]]) -> int:
    """Put ``question`` to the node whose admin server is at ``addr``; returns the exit code.

    Raises :class:`~laminar.errors.ConfigError` when that is no address.
    """

    async def work() -> None:
        async with AdminClient(addr) as client:
            await question(client)

    return anyio.run(partial(exit_code, work), backend="asyncio")


async def exit_code(work: Callable[[], Awaitable[None]]) -> int:
    """Do the work; returns the exit code that says how it ended."""
    try:
        stopped_by = await until_signal(work)
    except ConfigError:
        raise
    except BrokenPipeError:  # whoever would have read it has left
        give_up(sys.stdout)
        return EXIT_OK
    except OSError as error:
        complain(f"laminar: the answer cannot be written: {error.strerror}")
        give_up(sys.stdout)
        return EXIT_FAILURE
    except LaminarError as error:
        complain(f"laminar: {one_line(error)}")
        return EXIT_FAILURE
    return EXIT_OK if stopped_by is None else EXIT_SIGNAL + stopped_by
