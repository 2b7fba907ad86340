"""What the suites of contracts have in common: one promise, checked on something fresh."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import anyio

T = TypeVar("T")


async def hold_to(
    check: Callable[[T], Awaitable[None]],
    subject: AbstractAsyncContextManager[T],
    timeout_seconds: float,
) -> None:
    """Make the ``subject``, and put it to ``check`` for at most ``timeout_seconds``.

    Raises ``AssertionError``, naming the check, when the promise is broken.
    """
    try:
        async with subject as made:
            with anyio.fail_after(timeout_seconds):
                await check(made)
    except TimeoutError as error:
        raise AssertionError(
            f"{check.__name__}: what must come did not within {timeout_seconds} s"
        ) from error
    except AssertionError as error:
        error.add_note(f"in {check.__name__}")
        raise


def expect(got: object, wanted: object) -> None:
    """Raise ``AssertionError`` unless both are equal."""
    if got != wanted:
        raise AssertionError(f"expected {wanted!r}, got {got!r}")
