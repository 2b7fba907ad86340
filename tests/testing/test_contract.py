"""A broken promise is told with its name."""

from contextlib import asynccontextmanager

import anyio
import pytest

from laminar.testing.contract import expect, hold_to
from tests.wiring import limited


@asynccontextmanager
async def subject(log):
    log.append("made")
    yield 7
    log.append("torn down")


@limited
async def test_a_promise_that_holds_is_checked_once_on_something_fresh():
    log = []

    async def holds(made):
        log.append(made)

    await hold_to(holds, subject(log), 5)
    assert log == ["made", 7, "torn down"]


@limited
async def test_what_does_not_come_in_time_is_a_broken_promise():
    async def never_comes(made):
        await anyio.sleep_forever()

    with pytest.raises(AssertionError, match=r"never_comes: .* within 0.01 s"):
        await hold_to(never_comes, subject([]), 0.01)


@limited
async def test_a_broken_promise_names_its_check():
    async def is_eight(made):
        expect(made, 8)

    with pytest.raises(AssertionError, match="expected 8, got 7") as caught:
        await hold_to(is_eight, subject([]), 5)
    assert caught.value.__notes__ == ["in is_eight"]
