"""The contract of ``ClusterKv`` as a suite that any implementation can be put to.

::

    @asynccontextmanager
    async def my_cluster(nodes):
        yield {node: MyKv(node) for node in nodes}

    async def test_contract():
        await check_kv(my_cluster)

Visibility between nodes may take its time (gossip does): the checks watch for what has to
come and fail when it does not come within ``timeout_seconds``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import anyio

from laminar.cluster.kv import KEY_LENGTH_MAX, ClusterKv, KvEvent
from laminar.errors import ClosedError, ConfigError
from laminar.model import NodeId, node_id
from laminar.testing.contract import expect, hold_to

KvCluster: TypeAlias = Mapping[str, ClusterKv]
"""A handle for each node of one cluster."""

KvFactory: TypeAlias = Callable[[Sequence[NodeId]], AbstractAsyncContextManager[KvCluster]]
"""Makes an empty cluster of the given nodes, and tears it down."""

A = node_id("a")
B = node_id("b")


async def check_kv(factory: KvFactory, *, timeout_seconds: float = 10.0) -> None:
    """Run every check of :data:`KV_CHECKS` on a fresh cluster of the nodes ``a`` and ``b``.

    Raises ``AssertionError``, naming the check, at the first broken promise.
    """
    for check in KV_CHECKS:
        await run_check(check, factory, timeout_seconds=timeout_seconds)


async def run_check(check: KvCheck, factory: KvFactory, *, timeout_seconds: float = 10.0) -> None:
    """Run one check on a fresh cluster, at most ``timeout_seconds`` long."""
    await hold_to(check, factory([A, B]), timeout_seconds)


async def own_writes_are_seen_at_once(kvs: KvCluster) -> None:
    """A node reads what it just wrote, overwrote and deleted."""
    kv = kvs[A]
    expect(kv.local_node, A)
    await kv.write("k", "1")
    expect(await kv.read_from(A, "k"), "1")
    await kv.write("k", "2")
    expect(await kv.read_from(A, "k"), "2")
    await kv.delete("k")
    expect(await kv.read_from(A, "k"), None)
    await kv.write("k", "")
    expect(await kv.read_from(A, "k"), "")


async def what_is_not_there_is_none(kvs: KvCluster) -> None:
    """Unknown nodes and keys read as ``None``; deleting them is no error."""
    expect(await kvs[A].read_from(A, "k"), None)
    expect(await kvs[A].read_from(node_id("stranger"), "k"), None)
    await kvs[A].delete("k")
    expect(await kvs[A].scan(), {})


async def others_see_a_write(kvs: KvCluster) -> None:
    """What one node wrote and deleted reaches the other."""
    async with kvs[B].watch() as events:
        await kvs[A].write("k", "1")
        await _until(events, KvEvent(A, "k", "1"))
        expect(await kvs[B].read_from(A, "k"), "1")
        await kvs[A].delete("k")
        await _until(events, KvEvent(A, "k", None))
        expect(await kvs[B].read_from(A, "k"), None)


async def each_node_has_its_own_slot(kvs: KvCluster) -> None:
    """Two nodes use one key without touching each other's value."""
    async with kvs[A].watch() as events:
        await kvs[A].write("k", "from a")
        await kvs[B].write("k", "from b")
        await _until_state(events, {(A, "k"): "from a", (B, "k"): "from b"})
        expect(await kvs[A].read_from(A, "k"), "from a")
        expect(await kvs[A].read_from(B, "k"), "from b")
        await kvs[A].delete("k")
        expect(await kvs[A].read_from(B, "k"), "from b")


async def scan_selects_by_prefix(kvs: KvCluster) -> None:
    """``scan`` returns the matching keys by node, as a copy."""
    kv = kvs[A]
    for key in ("x:1", "x:2", "y:1"):
        await kv.write(key, key.upper())
    expect(await kv.scan("x:"), {A: {"x:1": "X:1", "x:2": "X:2"}})
    expect(await kv.scan("z"), {})
    everything = await kv.scan()
    expect(everything, {A: {"x:1": "X:1", "x:2": "X:2", "y:1": "Y:1"}})
    everything[A].clear()
    expect(await kv.read_from(A, "x:1"), "X:1")


async def watch_begins_with_what_is_there(kvs: KvCluster) -> None:
    """A late watcher is told the present state, then the changes."""
    await kvs[A].write("x:1", "1")
    await kvs[A].write("y:1", "not asked for")
    async with kvs[A].watch("x:") as events:
        expect(await anext(events), KvEvent(A, "x:1", "1"))
        await kvs[A].write("y:1", "still not")
        await kvs[A].write("x:2", "2")
        expect(await anext(events), KvEvent(A, "x:2", "2"))
        await kvs[A].delete("x:1")
        expect(await anext(events), KvEvent(A, "x:1", None))


async def slow_watchers_get_the_last_state(kvs: KvCluster) -> None:
    """A watcher that did not read for long gets one event for each key that differs."""
    await kvs[A].write("gone", "1")
    async with kvs[A].watch() as events:
        expect(await anext(events), KvEvent(A, "gone", "1"))
        for number in range(200):
            await kvs[A].write("k", str(number))
            await kvs[A].write(f"passing:{number}", "x")
            await kvs[A].delete(f"passing:{number}")
        await kvs[A].delete("gone")
        # A marker key ends the wait: whatever came before it has been told by then.
        await kvs[A].write("marker", "here")
        told = [await anext(events) for _ in range(3)]
        expected = [KvEvent(A, "gone", None), KvEvent(A, "k", "199"), KvEvent(A, "marker", "here")]
        expect(sorted(told, key=lambda event: event.key), expected)


async def a_cancelled_read_loses_nothing(kvs: KvCluster) -> None:
    """An event that a cancelled read did not return is there for the next read."""
    async with kvs[A].watch() as events:
        for number in range(20):
            await kvs[A].write("k", str(number))
            event: KvEvent | None = None
            with anyio.CancelScope() as scope:
                scope.cancel()
                event = await anext(events)
            if event is None:
                event = await anext(events)
            expect(event, KvEvent(A, "k", str(number)))


async def a_waiting_reader_is_woken(kvs: KvCluster) -> None:
    """A reader that waits gets each change, and an end when the watch is closed under it."""
    told: list[KvEvent] = []
    closed = anyio.Event()

    async def read(events: AsyncIterator[KvEvent]) -> None:
        try:
            async for event in events:
                told.append(event)
        except ClosedError:
            closed.set()

    async with anyio.create_task_group() as tasks:
        async with kvs[A].watch() as events, kvs[A].watch() as echo:
            tasks.start_soon(read, events)
            for number in range(3):
                await anyio.wait_all_tasks_blocked()
                await kvs[A].write("k", str(number))
                await anext(echo)
            await anyio.wait_all_tasks_blocked()
        await closed.wait()
    expect(told, [KvEvent(A, "k", str(number)) for number in range(3)])


async def a_closed_watch_says_so(kvs: KvCluster) -> None:
    """Reading a watch after its block is an error, whatever was pending."""
    async with kvs[A].watch() as events:
        await kvs[A].write("k", "1")
    try:
        event = await anext(events)
    except ClosedError:
        return
    raise AssertionError(f"a closed watch returned {event}")


async def limits_are_enforced(kvs: KvCluster) -> None:
    """Keys and values fit exactly or are refused with nothing written."""
    kv = kvs[A]
    longest_key = "k" * KEY_LENGTH_MAX
    largest_value = "ä" * (kv.value_bytes_max // 2) + "x" * (kv.value_bytes_max % 2)
    await kv.write(longest_key, largest_value)
    expect(await kv.read_from(A, longest_key), largest_value)
    await kv.delete(longest_key)
    refused = [
        ("", "v"),
        (longest_key + "k", "v"),
        (longest_key, largest_value + "x"),
        ("k", "\ud800"),
    ]
    for key, value in refused:
        try:
            await kv.write(key, value)
        except ConfigError:
            continue
        raise AssertionError(f"a key of {len(key)} and a value of {len(value)} were accepted")
    expect(await kv.scan(), {})


KvCheck: TypeAlias = Callable[[KvCluster], Awaitable[None]]
"""One promise of the contract, checked on an empty cluster of ``a`` and ``b``."""

KV_CHECKS: tuple[KvCheck, ...] = (
    own_writes_are_seen_at_once,
    what_is_not_there_is_none,
    others_see_a_write,
    each_node_has_its_own_slot,
    scan_selects_by_prefix,
    watch_begins_with_what_is_there,
    slow_watchers_get_the_last_state,
    a_cancelled_read_loses_nothing,
    a_waiting_reader_is_woken,
    a_closed_watch_says_so,
    limits_are_enforced,
)


async def _until(events: AsyncIterator[KvEvent], wanted: KvEvent) -> None:
    async for event in events:
        if event == wanted:
            return


async def _until_state(
    events: AsyncIterator[KvEvent], wanted: Mapping[tuple[NodeId, str], str]
) -> None:
    state: dict[tuple[NodeId, str], str | None] = {}
    async for event in events:
        state[event.node, event.key] = event.value
        if state == wanted:
            return
