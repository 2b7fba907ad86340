"""Keys are replaced while agents gossip over real UDP, on every event loop."""

import stat
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from laminar.cluster import keyring_file
from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.gossip.key_messages import Stage
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.keyring import Keyring, key_id
from laminar.config import GossipConfig
from laminar.errors import ClosedError, ConfigError, KeyRotationError
from tests.wiring import eventually, limited, raises_within

QUICK = GossipConfig(interval_s=0.01, key_step_timeout_s=20.0)
OLD, NEW, NEWER = b"o" * 32, b"n" * 32, b"N" * 32


@pytest.fixture
def files(tmp_path):
    """The keyring file of each node."""
    made = {name: tmp_path / name for name in "abcd"}
    for file in made.values():
        keyring_file.save(file, Keyring([OLD]))
    return made


def agent(name, file, seeds=(), **settings):
    ring = keyring_file.load(file)
    settings = {"config": QUICK, "keys_file": file, **settings}
    return GossipAgent(name, "127.0.0.1:0", seeds=seeds, keyring=ring, **settings)


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


def keys_of(one):
    return one._keyring.keys


def refused(one):
    """How many datagrams were refused for their key."""
    told = one.seal_statistics().refused
    return told.get("key", 0) + told.get("forged", 0) + told.get("unsealed", 0)


async def rounds(agents, count):
    """Let all gossip on for a while."""
    until = [one.statistics().rounds + count for one in agents]
    await eventually(
        lambda: all(one.statistics().rounds > end for one, end in zip(agents, until, strict=True))
    )


@limited
async def test_a_key_is_replaced_and_no_datagram_is_lost(files):
    async with cluster(files, "abcd") as agents:
        a, b, *_ = agents
        await a.kv.write("before", "1")
        change = await b.rotate_key(NEW)
        assert change.identity == key_id(NEW)
        assert sorted(change.members) == ["a", "b", "c", "d"]
        assert change.skipped == ()
        assert [keys_of(one) for one in agents] == [(NEW,)] * 4
        await b.rotate_key()  # one that is made there
        assert len({keys_of(one) for one in agents}) == 1
        assert keys_of(a)[0] not in (OLD, NEW)
        await a.kv.write("after", "2")
        for one in agents:
            await eventually(lambda one=one: reads(one, "a", "after") == "2")
        await rounds(agents, 20)
        assert [refused(one) for one in agents] == [0] * 4
        last = keys_of(a)
    for file in files.values():
        assert keyring_file.load(file).keys == last
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with cluster(files, "abcd"):
        pass  # all start again with what is on disk


def reads(one, node, key):
    return one._core.read(node, key, anyio.current_time())


@limited
async def test_no_slot_shows_a_key_afterwards(files):
    async with cluster(files) as agents:
        await agents[0].rotate_key(NEW)
        await rounds(agents, 10)
        for one in agents:
            for slot in one._core._view.slots.values():
                held = str([*slot.priority._entries.items(), *slot.bulk._entries.items()])
                assert NEW.hex() not in held
                assert "gossip:keys" in held
            assert await one.kv.scan("") == {}  # the gossip's own keys are nobody's business


@limited
async def test_each_step_can_be_taken_alone(files):
    async with cluster(files) as agents:
        a, b, c = agents
        await a.install_key(NEW)
        assert [keys_of(one) for one in agents] == [(OLD, NEW)] * 3
        await b.use_key(key_id(NEW))
        assert [keys_of(one) for one in agents] == [(NEW, OLD)] * 3
        with pytest.raises(ConfigError, match="is in use"):
            await c.remove_key(key_id(NEW))
        await c.remove_key(key_id(OLD))
        assert [keys_of(one) for one in agents] == [(NEW,)] * 3
        with pytest.raises(ConfigError, match="no key"):
            await c.use_key(key_id(OLD))
        told = (key_id(NEW),)
        for one in agents:
            await eventually(
                lambda one=one: (
                    {node: report.ids for node, report in one.key_reports().items()}
                    == dict.fromkeys("abc", told)
                )
            )
        assert {report.stage for report in a.key_reports().values()} == {Stage.REMOVE}


@limited
async def test_two_at_once_end_with_one_key(files):
    outcomes = {}

    async def rotate(one, key):
        try:
            outcomes[key] = await one.rotate_key(key)
        except KeyRotationError as error:
            outcomes[key] = error

    async with cluster(files) as agents:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rotate, agents[0], NEW)
            tasks.start_soon(rotate, agents[1], NEWER)
        done = [key for key, outcome in outcomes.items() if not isinstance(outcome, Exception)]
        assert done
        for one in agents:
            await eventually(lambda one=one: keys_of(one) in {(key,) for key in done})
        assert len({keys_of(one) for one in agents}) == 1
        for outcome in outcomes.values():
            if isinstance(outcome, KeyRotationError):
                assert "later change of keys" in str(outcome)


@limited
async def test_who_joins_meanwhile_takes_the_key(files):
    async with cluster(files) as agents, anyio.create_task_group() as tasks:
        tasks.start_soon(agents[0].rotate_key, NEW)
        await eventually(lambda: len(keys_of(agents[1])) == 2)
        async with agent("d", files["d"], [agents[2].local_addr]) as late:
            await eventually(lambda: keys_of(late) == (NEW,))
            await eventually(lambda: knows(late, "abcd"))
            await eventually(lambda: all(knows(one, "abcd") for one in agents))


@limited
async def test_without_an_answer_nothing_is_lost(files):
    """One member cannot keep the key, so nobody uses it; once it can, all goes well."""
    async with cluster(files) as agents:
        a, b, c = agents
        folder, away = files["c"].parent / "gone", files["c"].parent / "elsewhere"
        c._keys._file = folder / "c"
        with pytest.raises(KeyRotationError, match="nobody uses it") as caught:
            await a.rotate_key(NEW, timeout_s=0.3)
        assert caught.value.lacking.keys() == {"c"}
        assert "cannot save the keyring" in caught.value.lacking["c"]
        assert {one._keyring.primary for one in agents} == {key_id(OLD)}
        assert not away.exists()
        folder.mkdir()
        await b.rotate_key(NEWER)
        assert [keys_of(one) for one in agents] == [(NEWER,)] * 3
        assert keyring_file.load(folder / "c").keys == (NEWER,)


@limited
async def test_the_dead_are_not_forgotten(files):
    """Who was away with the old key only is refused, counted, and let in with the new file."""
    config = GossipConfig(interval_s=0.01, leave_timeout_s=0.001)
    async with cluster(files, "ab") as (a, b):
        async with agent("c", files["c"], [a.local_addr], config=config) as c:
            await eventually(lambda: knows(a, "abc") and knows(b, "abc"))
            c._core.error = KeyError()  # it falls silent without a goodbye
        c = None
        await eventually(lambda: a.members()["c"].state is MemberState.DEAD)
        with pytest.raises(KeyRotationError, match="nothing was changed") as caught:
            await a.rotate_key(NEW)
        assert caught.value.lacking == {"c": "it is dead"}
        await eventually(lambda: b.members()["c"].state is MemberState.DEAD)
        change = await a.rotate_key(NEW, skip_dead=True)
        assert change.skipped == ("c",)
        async with agent("c", files["c"], [a.local_addr]) as c:
            await eventually(lambda: refused(a) > 3)
            assert c.members()["c"].state is MemberState.JOINING
            with pytest.raises(ConfigError, match="not found any other"):
                await c.rotate_key()
        files["c"].write_bytes(files["a"].read_bytes())
        async with agent("c", files["c"], [a.local_addr]):
            await eventually(lambda: knows(a, "abc"))


@limited
async def test_without_keys_there_is_nothing_to_change():
    async with GossipAgent("a", "127.0.0.1:0", config=QUICK) as one:
        for change in (one.rotate_key, lambda: one.install_key(NEW), lambda: one.use_key(b"1234")):
            with pytest.raises(ConfigError, match="no keys to change"):
                await change()
        assert one.key_reports() == {}
    with pytest.raises(ConfigError, match="a keyring is needed"):
        GossipAgent("a", "127.0.0.1:0", keys_file="laminar.keys")


@limited
async def test_only_a_key_is_installed(files):
    async with cluster(files, "a") as (one,):
        for key in (b"short", "n" * 32, None):
            with pytest.raises(ConfigError, match="16 to 64 random bytes"):
                await one.install_key(key)
        for number in range(7):
            one._keyring.install(bytes([number]) * 32)
        with pytest.raises(ConfigError, match="at most 8 keys"):
            await one.rotate_key()
        await one.remove_key(key_id(bytes(32)))
        await one.rotate_key(NEW)
        assert keyring_file.load(files["a"]).keys == (NEW,)


@limited
async def test_one_change_at_a_time(files):
    async with cluster(files) as agents, anyio.create_task_group() as tasks:
        tasks.start_soon(agents[0].rotate_key, NEW)
        await eventually(lambda: len(keys_of(agents[0])) == 2)
        with pytest.raises(ConfigError, match="changing the keys already"):
            await agents[0].install_key(NEWER)


@limited
async def test_nonsense_about_keys_is_counted(files):
    async with cluster(files, "ab") as (a, b):
        b._core.announce("gossip:keys:order", "all your keys", anyio.current_time())
        await eventually(lambda: a.statistics().drops.get("keys") == 1)
        assert (await a.rotate_key(NEW)).identity == key_id(NEW)


@limited
async def test_leaving_ends_a_change(files):
    errors = []

    async def rotate(one):
        errors.append(await raises_within(10, lambda: one.rotate_key(NEW, timeout_s=1000)))

    async with anyio.create_task_group() as tasks, cluster(files, "ab") as (a, _):
        tasks.start_soon(rotate, a)
        await eventually(lambda: len(keys_of(a)) == 2)
    assert [type(error) for error in errors] == [ClosedError]
    with pytest.raises(ClosedError):
        await a.rotate_key()
