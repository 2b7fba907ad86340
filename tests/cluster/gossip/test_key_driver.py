"""Keys are replaced while agents gossip over real UDP, on every event loop."""

# Blocks nest here, and what raises is often a whole block.

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from laminar.cluster import keyring_file
from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.keyring import Keyring, key_id
from laminar.config import GossipConfig
from tests.wiring import eventually, limited

QUICK = GossipConfig(interval_s=0.01, key_step_timeout_s=20.0)
OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
def files(tmp_path):
    """The keyring file of each node."""
    made = {name: tmp_path / name for name in "abcd"}
    for file in made.values():
        keyring_file.save(file, Keyring([OLD]))
    return made


def agent(name, file, seeds=(), **settings):
    ring = keyring_file.load(file)
    settings = {"config": QUICK, **settings}
    return GossipAgent(name, "127.0.0.1:0", seeds=seeds, keyring=ring, keys_file=file, **settings)


@asynccontextmanager
async def cluster(files, names="abc"):
    async with AsyncExitStack() as stack:
        started = []
        for name in names:
            seeds = [started[0].local_addr] if started else []
            started.append(await stack.enter_async_context(agent(name, files[name], seeds)))
        await eventually(lambda: all(knows(one, names) for one in started))
        yield started


def knows(one, names):
    states = {node: member.state for node, member in one.members().items()}
    return states == dict.fromkeys(names, MemberState.ALIVE)


def refusals(agents):
    return {reason for one in agents for reason in one.seal_statistics().refused}


@limited
async def test_a_key_is_replaced_while_all_talk(files):
    async with cluster(files) as agents:
        change = await agents[1].rotate_key(NEW)
        assert change.identity == key_id(NEW)
        assert sorted(change.members) == ["a", "b", "c"]
        assert change.skipped == ()
        for one in agents:
            assert one._keyring.keys == (NEW,)
        rounds = [one.statistics().rounds for one in agents]
        await eventually(
            lambda: all(
                one.statistics().rounds > r + 20 for one, r in zip(agents, rounds, strict=True)
            )
        )
        assert refusals(agents) <= {"late"}
        assert sum(one.statistics().suspicions for one in agents) == 0
    for name in "abc":
        assert keyring_file.load(files[name]).keys == (NEW,)
