"""Leaving what an object owns: what its user's block raised stays what it was."""

from contextlib import AsyncExitStack

import anyio
import pytest

from laminar.net.tasks import leave, leave_with
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


class RaisesAgain:
    """As a task group does with its own cancellation."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, exc_type, exc, traceback):
        if exc is not None:
            raise exc


class Notes:
    def __init__(self):
        self.told = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, exc_type, exc, traceback):
        self.told.append(exc)


async def test_an_error_of_the_block_is_not_told():
    stack, notes = AsyncExitStack(), Notes()
    await stack.enter_async_context(notes)
    await leave(stack, ValueError("of the user"))
    assert notes.told == [None]


async def test_cancellation_is_told():
    stack, notes = AsyncExitStack(), Notes()
    await stack.enter_async_context(notes)
    cancelled = anyio.get_cancelled_exc_class()
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except cancelled as error:
            await leave(stack, error)
            raise
    assert [type(error) for error in notes.told] == [cancelled]


async def test_an_error_that_comes_back_is_not_its_own_context():
    """Or else the next exit stack that sees it looks for the end of a circle."""
    stack = AsyncExitStack()
    await stack.enter_async_context(RaisesAgain())
    try:
        raise KeyError("handled meanwhile")
    except KeyError as handled:
        error = ValueError("raised again")
        error.__context__ = handled
        with pytest.raises(ValueError, match="raised again") as caught:
            await leave_with(stack, error)
    assert caught.value is error
    assert error.__context__ is not error
