"""Laminar with one lane that nobody empties, beside lanes that flow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import anyio
import anyio.to_thread

from benchmarks.child import Link
from benchmarks.peers.laminar import run
from benchmarks.process import PeerMissing
from benchmarks.workload import stream_batches
from laminar import Data, NoCreditError, ShuffleConfig, ShuffleReceiver, ShuffleSender
from laminar.model import NodeId
from laminar.shuffle.inbox import Inbox

STEADY_SECONDS = 0.3
"""A lane is stuck when it has taken nothing for so long."""


def receiver(
    link: Link,
    *,
    me: str,
    rows: int,
    warm: int,
    count: int,
    channels: list[str],
    window_bytes: int,
) -> None:
    """Take ``warm`` batches of each channel, then ``count`` of the first and none of the others."""

    async def main() -> None:
        config = ShuffleConfig(window_bytes=window_bytes)
        async with ShuffleReceiver.bind(me, "127.0.0.1:0", config=config) as bound:
            inboxes = [bound.channel(name) for name in channels]
            link.report(address=bound.local_addr)
            for inbox in inboxes:
                await _take(inbox, warm * rows)
            link.report(warm=True)
            if count:
                await _take(inboxes[0], count * rows)
                link.report(ended=time.monotonic())
            await anyio.to_thread.run_sync(link.heard)

    run("asyncio", main)


async def _take(inbox: Inbox, rows: int) -> None:
    seen = 0
    while seen < rows:
        _, message = await inbox.recv()
        seen += message.batch.num_rows  # type: ignore[union-attr]


def sender(
    link: Link,
    *,
    addresses: dict[str, str],
    rows: int,
    warm: int,
    count: int,
    flowing: list[list[str]],
    stalled: list[str],
    fill: bool,
    window_bytes: int,
) -> None:
    """Warm all lanes (peer, channel) up; fill the stalled one if told; then time the others."""
    batches = stream_batches(rows)

    async def main() -> None:
        async with (
            ShuffleSender("a", config=ShuffleConfig(window_bytes=window_bytes)) as fabric,
            anyio.create_task_group() as tasks,
        ):

            async def send(lane: Sequence[str], count: int) -> None:
                peer, channel = lane
                for batch in islice(cycle(batches), count):
                    await fabric.send_to(peer, Data(batch, channel))

            async def fill_up(peer: str, channel: str) -> None:
                steady_since = time.monotonic()
                while time.monotonic() - steady_since < STEADY_SECONDS:
                    try:
                        fabric.try_send(peer, Data(batches[0], channel))
                        steady_since = time.monotonic()
                    except NoCreditError:
                        await anyio.sleep(0.005)

            for peer, address in addresses.items():
                fabric.register_peer(peer, address)
            for lane in (*flowing, stalled):
                await send(lane, warm)
            link.report(ready=True)
            await anyio.to_thread.run_sync(link.heard)
            if fill:
                peer, channel = stalled
                await fill_up(peer, channel)
                tasks.start_soon(send, stalled, 1)  # and somebody waits for room all the time
                window = fabric.statistics().peers[NodeId(peer)].channels[channel]
                used = window.window_used_bytes
                link.report(window_used=used, in_kernel=in_kernel(addresses[peer]))
                await anyio.to_thread.run_sync(link.heard)
            link.report(started=time.monotonic())
            async with anyio.create_task_group() as lanes:
                for lane in flowing:
                    lanes.start_soon(send, lane, count)
            await anyio.to_thread.run_sync(link.heard)
            tasks.cancel_scope.cancel()

    run("asyncio", main)


def in_kernel(address: str) -> int:
    """Bytes that wait in the kernel on their way to ``address``, at both ends.

    Raises :class:`PeerMissing` where the kernel does not tell.
    """
    table = Path("/proc/net/tcp")
    if not table.exists():
        raise PeerMissing("only Linux tells how full a socket is")
    port = f":{int(address.rpartition(':')[2]):04X}"
    waiting = 0
    for line in table.read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        to_send, received = (int(size, 16) for size in queues.split(":"))
        waiting += to_send * remote.endswith(port) + received * local.endswith(port)
    return waiting
