"""Following: the newest state of each key, once, to everybody who follows."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import ClosedError
from laminar.following import Follower, Followers


async def told(changes, count):
    with anyio.fail_after(5):
        return [await anext(changes) for _ in range(count)]


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers()),
    st.lists(st.none() | st.tuples(st.sampled_from("abc"), st.integers()), max_size=40),
)
def test_whoever_lags_hears_the_newest_of_each_key_and_no_more(known, steps):
    """``None`` is a reading: the key that has waited longest is told."""

    async def run():
        followers = Followers()
        pending = dict(known)
        async with followers.follow(known) as changes:
            for step in [*steps, *[None] * 6]:
                if step is not None:
                    key, number = step
                    followers.changed(key, (key, number))
                    pending[key] = (key, number)
                elif pending:
                    assert await told(changes, 1) == [pending.pop(next(iter(pending)))]
            assert not pending
            with anyio.move_on_after(0) as scope:
                await anext(changes)
            assert scope.cancelled_caught

    anyio.run(run)


async def test_everybody_who_follows_is_told_and_nobody_else():
    followers = Followers()
    async with followers.follow({"a": "old"}) as first:
        async with followers.follow({}) as second:
            followers.changed("b", "new")
            assert await told(first, 2) == ["old", "new"]
            assert await told(second, 1) == ["new"]
        followers.changed("c", "later")
        assert await told(first, 1) == ["later"]
        with pytest.raises(ClosedError):
            await anext(second)


async def test_a_cancelled_reader_loses_nothing():
    followers = Followers()
    async with followers.follow({}) as changes:
        with anyio.move_on_after(0):
            await anext(changes)
        followers.changed("a", 1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(changes)
        assert await told(changes, 1) == [1]


async def test_all_who_wait_are_woken():
    pending, got, ended = [], [], []
    follower = Follower(lambda: pending.pop() if pending else None)

    async def read():
        try:
            async for change in follower:
                got.append(change)
        except ClosedError:
            ended.append(True)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            pending += ["x", "y"]
            follower.wake()
            await anyio.wait_all_tasks_blocked()
            assert sorted(got) == ["x", "y"]
            follower.close()
    assert ended == [True] * 3
