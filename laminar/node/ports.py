"""One port for both: TCP for data, and UDP for gossip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, TypeVar

from laminar.errors import StreamBrokenError
from laminar.net.address import format_addr, parse_addr

T = TypeVar("T")

PORT_ATTEMPTS: Final = 8
"""How many ports are tried for one that is free for TCP and UDP, when any will do."""


async def open_at_one_port(
    listen: str, stack: AsyncExitStack, parts: Callable[[int], Awaitable[T]]
) -> T:
    """Have ``parts`` enter all that listens at ``listen`` into ``stack``; what it returns.

    With a port of the system's choice it is called again, with the number of the attempt from 0,
    until one is free for all. Raises :class:`~laminar.errors.StreamBrokenError` when none is.
    """
    _, port = parse_addr(listen)
    attempt = 0
    while True:
        try:
            return await parts(attempt)
        except StreamBrokenError:
            await stack.aclose()
            attempt += 1
            if port or attempt == PORT_ATTEMPTS:
                raise


def at_port_of(listen: str, bound: str) -> str:
    """The host of ``listen`` with the port of ``bound``."""
    return format_addr(parse_addr(listen)[0], parse_addr(bound)[1])
