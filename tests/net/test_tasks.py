"""Leaving the task group of an object: what its user's block raised stays what it was."""

from contextlib import AsyncExitStack

import anyio
import pytest

from laminar.net.tasks import leave
from tests.wiring import limited


class Owner:
    """Has a task of its own, and takes its time to leave."""

    async def __aenter__(self):
        self.stack = AsyncExitStack()
        self.tasks = await self.stack.enter_async_context(anyio.create_task_group())
        self.tasks.start_soon(anyio.sleep_forever)
        return self

    async def __aexit__(self, exc_type, exc, traceback):
        try:
            await anyio.sleep(0.001)
        finally:
            self.tasks.cancel_scope.cancel()
            await leave(self.stack, exc)


@limited
async def test_an_error_of_the_block_is_not_wrapped():
    with pytest.raises(ZeroDivisionError):
        async with Owner():
            raise ZeroDivisionError


@limited
async def test_a_cancellation_that_comes_again_while_leaving_has_an_end():
    """On asyncio, a task group follows the contexts of a cancellation to the last one."""
    lasts = []

    async def live():
        try:
            async with Owner():
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            contexts = [error]
            while contexts[-1].__context__ not in (None, *contexts):
                contexts.append(contexts[-1].__context__)
            lasts.append(contexts[-1].__context__)
            contexts[-1].__context__ = None  # else this test would not end
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert lasts == [None]
