from contextlib import AsyncExitStack

import anyio
import pytest

from laminar.net.tasks import leave, leave_with


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
