"""Doing one thing for many: all are tried, and the failures reported together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from laminar.errors import FanOutError, LaminarError

Key = TypeVar("Key", bound=str)


async def collect(
    failures: dict[Key, LaminarError], key: Key, action: Callable[[], Awaitable[None]]
) -> None:
    """Run ``action``; keep the error of this package that it raises under ``key``."""
    try:
        await action()
    except LaminarError as error:
        failures[key] = error


def raise_failures(what: str, failures: Mapping[Key, LaminarError]) -> None:
    """Raise the only failure as it is, several as :class:`~laminar.errors.FanOutError`."""
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise FanOutError(what, failures)
