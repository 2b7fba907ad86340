"""Laminar's gossip: one agent as a process, and how to start, change and hear it.

``python -m benchmarks.peers.laminar_gossip NODE LISTEN KEY [SEED]``: prints what it sees as JSON
lines, and writes each line of its standard input as its key.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import anyio

from benchmarks.sightings import Saw
from laminar import GossipAgent
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.keyring import Keyring

KEY_NAME = "value"
SAW = {MemberState.ALIVE.value: Saw.ALIVE, MemberState.DEAD.value: Saw.DEAD}


class Laminar:
    """Starts, changes and hears agents of Laminar."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._key = key

    def command(self, node: str, listen: str, seed: str | None) -> list[str]:
        """What starts an agent."""
        return [
            *(sys.executable, "-m", __name__, node, listen, self._key.hex()),
            *([seed] if seed else []),
        ]

    def change(self, node: str, value: str, pid: int, stdin: int) -> None:
        """Give the agent's key a new value."""
        os.write(stdin, value.encode() + b"\n")

    def hear(self, line: bytes) -> tuple[str, Saw, str | None] | None:
        """Who was seen how, if the line says that."""
        said = json.loads(line)
        if KEY_NAME in said:
            return said["node"], Saw.CHANGED, said[KEY_NAME]
        saw = SAW.get(said["state"])
        return (said["node"], saw, None) if saw else None


def say(**message: str | None) -> None:
    os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


async def serve(node: str, listen: str, key: str, *seeds: str) -> None:
    """Run the agent until its input ends."""
    keyring = Keyring([bytes.fromhex(key)])
    async with (
        GossipAgent(node, listen, seeds=seeds, keyring=keyring) as agent,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_tell_members, agent)
        tasks.start_soon(_tell_keys, agent)
        os.set_blocking(sys.stdin.fileno(), False)
        while True:
            await anyio.wait_readable(sys.stdin.fileno())
            lines = os.read(sys.stdin.fileno(), 65536)
            if not lines:
                break
            for value in lines.decode().splitlines():
                await agent.kv.write(KEY_NAME, value)
        tasks.cancel_scope.cancel()


async def _tell_members(agent: GossipAgent) -> None:
    async with agent.watch_members() as members:
        async for member in members:
            say(node=member.node, state=member.state.value)


async def _tell_keys(agent: GossipAgent) -> None:
    async with agent.kv.watch(KEY_NAME) as events:
        async for event in events:
            say(node=event.node, value=event.value)


if __name__ == "__main__":
    uvloop = importlib.util.find_spec("uvloop") is not None
    anyio.run(serve, *sys.argv[1:], backend_options={"use_uvloop": uvloop})
