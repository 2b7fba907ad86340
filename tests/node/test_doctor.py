"""The doctor among real nodes, on every event loop; and the nodes that answer it."""

import secrets

import anyio
import pytest

from laminar.cluster.etcd import EtcdKv
from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.config import DatagramConfig, EtcdConfig, ShuffleConfig
from laminar.errors import StreamBrokenError
from laminar.net.udp import UdpNetwork
from laminar.node.config import NodeConfig
from laminar.node.consultation import ASK_KEY, decode_ask
from laminar.node.diagnosis import Level, diagnose
from laminar.node.doctor import MEMBERS_MAX, Doctor, doctor_id
from laminar.node.node import Node
from laminar.shuffle.reach import Reach
from laminar.testing.certificates import Authority
from tests.etcd_server import EtcdServer, missing
from tests.node.clusters import cluster, config_of
from tests.wiring import eventually, free_addr, limited

KEY, OTHER = bytes(32), bytes(range(32))


async def examine(*seeds, name=None, timeout_s=5.0, network=None, **settings):
    member = doctor_id()
    config = config_of(name or member, *seeds, **settings)
    doctor = Doctor(config, member=member, timeout_s=timeout_s, datagram_network=network)
    return await doctor.examine()


def wrong(findings):
    return {(it.about, it.what): it for it in diagnose(findings) if it.level is Level.WRONG}


@limited
@pytest.mark.parametrize("keys", [(), (KEY,)])
async def test_where_all_is_well(keys):
    secured = ShuffleConfig(keys=keys)
    async with cluster("a", "b", shuffle=secured) as (a, b):
        findings = await examine(a.local_addr, shuffle=secured)
        assert wrong(findings) == {}
        assert [member.node for member in findings.members] == ["a", "b"]
        for member, node in zip(findings.members, (a, b), strict=True):
            assert member.probe.reach is Reach.GREETED
            assert member.answer.reach == "greeted"
            assert member.answers > 0
            assert member.data_addr == member.heard_from == node.local_addr
            least_s, most_s = member.clock_ahead_s
            assert least_s <= 0 <= most_s
        assert findings.seconds < 4


@limited
async def test_nobody_takes_the_doctor_for_a_worker():
    seen = set()

    async def follow(node):
        async with node.kv.watch() as events:
            async for event in events:
                if event.node != "a":
                    seen.add(event.key)

    async with cluster("a") as (a,), anyio.create_task_group() as tasks:
        tasks.start_soon(follow, a)
        await examine(a.local_addr)
        tasks.cancel_scope.cancel()
    assert seen == {ASK_KEY}


@limited
async def test_another_cluster():
    async with cluster("a") as (a,):
        findings = await examine(a.local_addr, shuffle=ShuffleConfig(cluster="other"))
        found = wrong(findings)
        seed = f"seed {a.local_addr}"
        assert set(found) == {(seed, "TCP"), (seed, "UDP"), ("here", "members")}
        assert "cluster is not 'other'" in found[seed, "TCP"].text
        assert found[seed, "TCP"].advice == "give both the same --cluster"


@limited
async def test_another_key():
    async with cluster("a", shuffle=ShuffleConfig(keys=(KEY,))) as (a,):
        findings = await examine(a.local_addr, shuffle=ShuffleConfig(keys=(OTHER,)))
        found = wrong(findings)
        assert "offers no key that is valid here" in found[f"seed {a.local_addr}", "TCP"].text


@limited
async def test_nobody_there_and_a_name_that_does_not_resolve():
    addr = free_addr()
    findings = await examine(addr, "nobody.invalid:7946", timeout_s=0.5)
    found = wrong(findings)
    assert "cannot connect" in found[f"seed {addr}", "TCP"].text
    assert ("seed nobody.invalid:7946", "name") in found
    assert findings.seconds < 2


class Wall:
    """A network that lets datagrams pass in one direction, or in none."""

    def __init__(self, *, sends, receives):
        self.sends, self.receives = sends, receives
        self._network = UdpNetwork()

    async def bind(self, addr):
        inner = await self._network.bind(addr)
        wall = self

        class Socket:
            local_addr = inner.local_addr
            close = staticmethod(inner.close)

            async def send_to(self, addr, datagram):
                if wall.sends:
                    await inner.send_to(addr, datagram)

            async def receive(self):
                while True:
                    received = await inner.receive()
                    if wall.receives:
                        return received

        return Socket()

    async def resolve(self, addr):
        return await self._network.resolve(addr)


@limited
@pytest.mark.parametrize(("sends", "receives"), [(False, True), (True, False)])
async def test_udp_is_blocked_and_tcp_is_not(sends, receives):
    async with cluster("a") as (a,):
        wall = Wall(sends=sends, receives=receives)
        findings = await examine(a.local_addr, timeout_s=0.5, network=wall)
        (seed,) = findings.seeds
        assert seed.probe.reach is Reach.GREETED
        found = wrong(findings)[f"seed {a.local_addr}", "UDP"]
        assert "open the port for UDP too" in found.advice


@limited
async def test_the_others_cannot_connect_back():
    """What the doctor advertises is an address of nobody's."""
    async with cluster("a") as (a,):
        addr = free_addr()
        findings = await examine(a.local_addr, advertise=addr, timeout_s=1.0)
        found = wrong(findings)["member a", f"TCP back ({addr})"]
        assert "it cannot connect to this node" in found.text


@limited
async def test_what_strangers_send_is_told_with_its_source():
    listen = free_addr()
    other = ShuffleConfig(cluster="other")
    async with cluster("a") as (a,), Node(config_of("x", listen, shuffle=other)) as x:
        findings = await examine(a.local_addr, listen=listen, timeout_s=0.5)
        assert findings.datagrams_refused["cluster", x.local_addr] > 0
        (found,) = [v for v in diagnose(findings) if (v.about, v.what) == ("here", "datagrams")]
        assert x.local_addr in found.text


@limited
async def test_a_fixed_list_of_peers():
    addr = free_addr()
    async with Node(NodeConfig("a", addr, peers={"b": free_addr()})):
        config = NodeConfig("b", peers={"a": addr})
        findings = await Doctor(config, member=doctor_id(), timeout_s=1.0).examine()
        assert wrong(findings) == {}
        assert not findings.gossips


def test_an_id_for_any_host(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "пк " * 80)
    assert doctor_id().startswith("doctor-------")
    assert doctor_id() != doctor_id()


def test_settings_of_datagrams_are_taken():
    config = config_of("doctor-x", datagrams=DatagramConfig(datagram_bytes_max=9000))
    assert Doctor(config, member=doctor_id(), timeout_s=1.0)._tap._sealer.payload_bytes_max > 8000


async def watch_lives(node, lives):
    async with node.watch_members() as members:
        async for member in members:
            lives.add((member.node, member.incarnation))


@limited
@pytest.mark.parametrize("seeds", ["ba", "b"])
async def test_the_id_of_a_node_that_runs(seeds):
    """Whether it is a seed or not, nobody takes it for one that was restarted elsewhere."""
    async with cluster("a", "b") as (a, b):
        before, lives, peers = b.members()["a"], set(), []

        async def watch_peers():
            async with b.receiver.watch_peers() as events:
                async for event in events:
                    peers.append(event)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_lives, b, lives)
            tasks.start_soon(watch_peers)
            addrs = {"a": a.local_addr, "b": b.local_addr}
            findings = await examine(*(addrs[seed] for seed in seeds), name="a")
            tasks.cancel_scope.cancel()
        found = wrong(findings)
        own = {(f"seed {a.local_addr}", "TCP")} if "a" in seeds else set()
        assert set(found) == {("here", "id")} | own
        assert "a node that runs has the id 'a'" in found["here", "id"].text
        assert found["here", "id"].advice == "take another --id"
        assert [member.node for member in findings.members] == ["a", "b"]
        assert a.error is None
        assert {(node, life) for node, life in lives if node == "a"} == {("a", before.incarnation)}
        assert b.members()["a"] == before
        assert peers == []


@limited
async def test_the_id_of_a_node_that_does_not_run():
    async with cluster("a", "b") as (a, b):
        findings = await examine(a.local_addr, name="c")
        assert (findings.node, wrong(findings)) == ("c", {})
        assert findings.member.startswith("doctor-")
        assert "c" not in b.members()


@limited
@pytest.mark.parametrize("name", ["a", "c"])
async def test_a_certificate_names_the_id_of_the_doctor(name, tmp_path):
    """It may even be that of a node that runs: all is examined but TCP between these two."""
    authority = Authority(tmp_path)
    certified = {node: ShuffleConfig(tls=authority.certify(node)) for node in "abc"}
    async with (
        Node(config_of("a", shuffle=certified["a"])) as a,
        Node(config_of("b", a.local_addr, shuffle=certified["b"])) as b,
    ):
        await b.ready(2)
        findings = await examine(b.local_addr, name=name, shuffle=certified[name])
        assert set(wrong(findings)) == ({("here", "id")} if name == "a" else set())
        reached = {member.node for member in findings.members if member.answer.reach == "greeted"}
        assert reached == {"a", "b"} - {name}


@limited
async def test_the_doctor_has_one_port_for_tcp_and_udp():
    told = set()

    async def follow(node):
        async with node.watch_members() as members, node.kv.watch(ASK_KEY) as asked:
            async for event in asked:
                if event.value is None:
                    break
                ask = decode_ask(event.value)
            async for member in members:
                if member.node == event.node:
                    told.update((member.addr, ask.addr))
                    break

    async with cluster("a") as (a,), anyio.create_task_group() as tasks:
        tasks.start_soon(follow, a)
        findings = await examine(a.local_addr)
    assert told == {findings.addr}


@limited
async def test_a_port_that_is_taken_for_udp_is_not_insisted_on():
    network = Taken(2)
    async with cluster("a") as (a,):
        findings = await examine(a.local_addr, network=network)
        assert wrong(findings) == {}
    assert (len(network.asked), network.asked[-1]) == (3, findings.addr)


class Taken(UdpNetwork):
    """The first ports that are asked of it are others'."""

    def __init__(self, times):
        self.asked, self._times = [], times

    async def bind(self, addr):
        self.asked.append(addr)
        if len(self.asked) <= self._times:
            raise StreamBrokenError(f"{addr} is taken")
        return await super().bind(addr)


@limited
async def test_doctors_that_are_gone_are_no_members():
    async with cluster("a", "b") as (a, b):
        for _ in range(3):
            assert wrong(await examine(a.local_addr)) == {}
        for node in (a, b):
            await eventually(lambda node=node: sorted(node.members()) == ["a", "b"])


# -- etcd -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    yield server
    server.kill()


async def examine_etcd(config, timeout_s=10.0):
    doctor = Doctor(NodeConfig("d", etcd=config), member=doctor_id(), timeout_s=timeout_s)
    return await doctor.examine()


@missing
@limited
async def test_nodes_that_find_each_other_in_etcd(etcd):
    config = EtcdConfig((etcd.endpoint,), prefix=f"/{secrets.token_hex(4)}")
    async with Node(NodeConfig("a", etcd=config)) as a, EtcdKv("b", config) as b:
        findings = await examine_etcd(config)
        assert (wrong(findings), findings.gossips) == ({}, False)
        assert findings.etcd.published == {"a": a.local_addr}
        await b.write(SHUFFLE_ADDR_KEY, a.local_addr)
        found = wrong(await examine_etcd(config))
        assert {at: verdict.text for at, verdict in found.items()} == {
            ("node b", "id"): "a listens there"
        }
        await b.write(SHUFFLE_ADDR_KEY, "nonsense")
        assert set(wrong(await examine_etcd(config))) == {("node b", "name")}
        assert (await a.kv.scan("")).keys() == {"a", "b"}
    found = wrong(await examine_etcd(config))
    assert set(found) == {("etcd", "nodes")}


@limited
async def test_no_etcd_answers():
    endpoint = f"http://{free_addr()}"
    findings = await examine_etcd(EtcdConfig((endpoint,)), timeout_s=0.3)
    found = wrong(findings)
    assert set(found) == {("etcd", "answer")}
    assert endpoint in found["etcd", "answer"].text


@limited
async def test_of_many_nodes_in_etcd_some_are_tried(monkeypatch):
    addrs = {f"n{number:02}": "nonsense" for number in range(MEMBERS_MAX + 3)}

    async def published(config):
        return addrs

    monkeypatch.setattr("laminar.node.doctor.published", published)
    findings = await examine_etcd(EtcdConfig())
    assert (len(findings.seeds), findings.others) == (MEMBERS_MAX, 3)
