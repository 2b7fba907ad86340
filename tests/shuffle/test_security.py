"""Nodes that authenticate each other, by key, by certificate or by both, over real sockets."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012

import random
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import anyio
import pytest

from laminar.cluster.keyring import Keyring, key_id
from laminar.errors import (
    ConfigError,
    HandshakeRefusedError,
    PeerUnreachableError,
    StreamClosedError,
    StreamError,
)
from laminar.net.tcp import TcpNetwork
from laminar.net.tls import TlsNetwork
from laminar.shuffle import control
from laminar.shuffle.frames import PREFACE, FrameDecoder, Kind, encode_frame, encode_preface
from laminar.shuffle.messages import Challenge, Data, End, Watermark, Welcome
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from laminar.testing.certificates import Authority
from tests.wiring import (
    KIB,
    QUICK,
    Proxy,
    Raw,
    eventually,
    hello,
    limited,
    numbered,
    random_cuts,
    rows_of,
)

OLD, NEW = b"the old key that everybody has", b"the new key that some have already"
IMPATIENT = replace(QUICK, reconnect_timeout_s=0.1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["key", "tls", "both"])
def secured(request, authority):
    """The settings of node ``a`` and of node ``b``."""
    keys = () if request.param == "tls" else (OLD,)
    tls = (None, None)
    if request.param != "key":
        tls = authority.certify("a"), authority.certify("b")
    return tuple(replace(QUICK, keys=keys, tls=files) for files in tls)


@asynccontextmanager
async def pair(mine, yours, **how):
    async with (
        ShuffleReceiver.bind("b", config=yours) as receiver,
        ShuffleSender("a", config=mine, **how) as sender,
    ):
        sender.register_peer("b", receiver.local_addr)
        yield sender, receiver


async def collected(receiver):
    rows = []
    while True:
        _, message = await receiver.recv()
        if isinstance(message, End):
            return rows
        rows += rows_of(message.batch)


# -- those who know each other -----------------------------------------------------------------


@limited
async def test_nodes_that_know_each_other_exchange_batches(secured):
    async with pair(*secured) as (sender, receiver):
        await sender.send_to("b", Data(numbered(0, 10, 10)))
        await sender.send_to("b", Data(numbered(10, 50_000, 10)))
        await sender.send_to("b", End())
        assert await collected(receiver) == list(range(50_010))
        assert receiver.statistics().drops == {}


@limited
async def test_cut_connections_resume(secured):
    """In mid-record too: nothing is lost, repeated or reordered."""
    mine, yours = (replace(c, target_frame_bytes=16 * KIB, coalesce_bytes=1) for c in secured)
    async with ShuffleReceiver.bind("b", config=yours) as receiver:
        proxy = Proxy(receiver.local_addr, random_cuts(7, cuts=25, bytes_max=60 * KIB))
        async with proxy.running(), anyio.create_task_group() as tasks:

            async def send():
                async with ShuffleSender("a", config=mine) as sender:
                    sender.register_peer("b", proxy.addr)
                    for start in range(0, 2000, 10):
                        await sender.send_to("b", Data(numbered(start, 10, KIB)))
                    await sender.send_to("b", End())

            tasks.start_soon(send)
            assert await collected(receiver) == list(range(2000))
        assert proxy.cuts == 25


@pytest.mark.parametrize(
    ("mine", "yours"),
    [((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (OLD,)), ((NEW,), (NEW, OLD))],
)
@limited
async def test_a_key_is_replaced_without_a_stop(mine, yours):
    async with pair(replace(QUICK, keys=mine), replace(QUICK, keys=yours)) as (sender, receiver):
        await sender.send_to("b", End())
        assert (await receiver.recv())[1] == End()


@limited
async def test_a_shared_ring_counts_for_the_next_connection():
    """A connection made before a key is replaced goes on; those after it need the new one."""
    mine, yours = Keyring([OLD]), Keyring([OLD])
    async with ShuffleReceiver.bind("b", config=QUICK, keyring=yours) as receiver:
        proxy = Proxy(receiver.local_addr)
        async with proxy.running(), ShuffleSender("a", config=QUICK, keyring=mine) as sender:
            sender.register_peer("b", proxy.addr)

            async def flush(cut):
                if cut:
                    proxy.cut()
                await sender.send_to("b", Watermark(1))
                await sender.flush()
                return sender.statistics().peers["b"].connections

            assert await flush(cut=False) == 1
            for step in (
                lambda ring: ring.install(NEW),
                lambda ring: ring.use(key_id(NEW)),
                lambda ring: ring.remove(key_id(OLD)),
            ):
                step(yours)  # the receiver is ahead of the sender for a while
                before = sender.statistics().peers["b"].connections
                if len(yours.keys) > 1:
                    assert await flush(cut=True) == before + 1
                step(mine)
                assert await flush(cut=True) > before
            assert await flush(cut=False) == sender.statistics().peers["b"].connections
            yours.install(OLD)
            yours.use(key_id(OLD))
            yours.remove(key_id(NEW))
            before = sender.statistics().peers["b"].connections
            assert await flush(cut=False) == before  # what is connected stays so
            assert receiver.statistics().drops == {}
            proxy.cut()
            await sender.send_to("b", Watermark(1))
            with pytest.raises(HandshakeRefusedError, match="no key that is valid here"):
                await sender.flush()
            assert receiver.statistics().drops == {"key": 1}


@limited
async def test_a_shared_ring_takes_the_place_of_the_keys_in_the_config():
    config = replace(QUICK, keys=(OLD,))
    ring = Keyring([NEW])
    async with (
        ShuffleReceiver.bind("b", "0.0.0.0:0", config=config, keyring=ring) as receiver,
        ShuffleSender("a", config=replace(QUICK, keys=(NEW,))) as sender,
    ):
        assert not receiver.config.validates_values
        port = receiver.local_addr.rpartition(":")[2]
        sender.register_peer("b", f"127.0.0.1:{port}")
        await sender.send_to("b", End())
        assert (await receiver.recv())[1] == End()
    async with ShuffleReceiver.bind("b", "0.0.0.0:0", config=QUICK, keyring=ring) as receiver:
        assert not receiver.config.validates_values
    full = replace(QUICK, validate="full")
    assert ShuffleReceiver.bind("b", config=full, keyring=ring).config.validates_values


@limited
async def test_connections_outlive_the_certificates_they_were_made_with(tmp_path):
    """All files are replaced, those of the authority too; the next connection uses them."""
    old = Authority(tmp_path)
    mine, yours = (replace(QUICK, tls=old.certify(node)) for node in "ab")
    async with ShuffleReceiver.bind("b", config=yours) as receiver:
        proxy = Proxy(receiver.local_addr)
        async with proxy.running(), ShuffleSender("a", config=mine) as sender:
            sender.register_peer("b", proxy.addr)
            await sender.send_to("b", Watermark(1))
            await sender.flush()
            new = Authority(tmp_path)
            new.certify("a")
            new.certify("b")
            await sender.send_to("b", Watermark(2))
            await sender.flush()
            assert receiver.statistics().certificates.reloads == 0
            proxy.cut()
            await sender.send_to("b", Watermark(3))
            await sender.flush()
            assert sender.statistics().peers["b"].connections == 2
            assert sender.statistics().certificates.reloads == 1
            assert receiver.statistics().certificates.reloads == 1
            assert len(receiver.drain_available()) == 3


def test_certificates_are_read_at_once(tmp_path):
    tls = Authority(tmp_path).certify("a")
    broken = replace(QUICK, tls=replace(tls, ca=tmp_path / "nowhere.pem"))
    for make in (ShuffleSender, ShuffleReceiver.bind):
        with pytest.raises(ConfigError, match=r"nowhere\.pem"):
            make("a", config=broken)


@limited
async def test_chance_comes_from_the_outside():
    """A seed decides the nonces, so that a simulated run can be repeated."""
    seen = []
    for _ in range(2):
        with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
            config = replace(IMPATIENT, keys=(OLD,))
            sender = ShuffleSender("a", config=config, rng=random.Random(1), incarnation=1)
            with pytest.raises(PeerUnreachableError):
                async with sender:
                    sender.register_peer("b", listener.local_addr)
                    await sender.send_to("b", End())
                    stream = await listener.accept()
                    buffer = memoryview(bytearray(KIB))
                    seen.append(bytes(buffer[: await stream.receive_into(buffer)]))
                    listener.close()
                    stream.close()
                    await sender.flush()
    assert seen[0] == seen[1]


# -- those who do not --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "yours", "why"),
    [
        ((), (OLD,), "set ShuffleConfig.keys"),
        ((OLD,), (), "this node has none: set ShuffleConfig.keys"),
        ((NEW,), (OLD,), "no key that is valid here"),
    ],
    ids=["no key", "a key too many", "another key"],
)
@limited
async def test_keys_that_do_not_match_are_told(mine, yours, why):
    async with pair(replace(QUICK, keys=mine), replace(QUICK, keys=yours)) as (sender, receiver):
        await sender.send_to("b", Watermark(1))
        with pytest.raises(HandshakeRefusedError, match=why) as caught:
            await sender.flush()
        assert "the old key" not in str(caught.value)
        assert receiver.statistics().drops == {"key": 1}
        assert receiver.statistics().peers == {}


async def unreachable(mine, yours, *, peer="b", bind="b", sender="a"):
    """Why the sender gives up, and what the receiver counted."""
    async with ShuffleReceiver.bind(bind, config=yours) as receiver:
        with pytest.raises((PeerUnreachableError, HandshakeRefusedError)) as caught:
            async with ShuffleSender(sender, config=mine) as dialling:
                dialling.register_peer(peer, receiver.local_addr)
                await dialling.send_to(peer, Watermark(1))
                await dialling.flush()
        assert receiver.statistics().peers == {}
        return str(caught.value), set(receiver.statistics().drops)


@limited
async def test_one_side_with_tls_and_one_without_do_not_meet(authority):
    tls = replace(IMPATIENT, tls=authority.certify("a"))
    why, drops = await unreachable(tls, IMPATIENT)
    assert "set ShuffleConfig.tls on both sides" in why
    assert drops == {"magic"}
    why, drops = await unreachable(IMPATIENT, tls)
    assert "the connection ended" in why  # an alert is shorter than a preface
    assert drops == {"tls"}


@limited
async def test_the_certificate_of_one_node_does_not_let_another_in(authority):
    mine = replace(IMPATIENT, tls=authority.certify("c"))
    yours = replace(IMPATIENT, tls=authority.certify("b"))
    why, drops = await unreachable(mine, yours)
    assert "the certificate of a lacks laminar://laminar/a" in why
    assert drops == {"certificate"}


@limited
async def test_a_sender_speaks_only_to_the_node_that_it_dialled(authority):
    """The address is another node's: it hears nothing, not even who wanted to talk."""
    mine = replace(IMPATIENT, tls=authority.certify("a"))
    yours = replace(IMPATIENT, tls=authority.certify("b"))
    why, drops = await unreachable(mine, yours, bind="c", peer="c")
    assert "the certificate of c lacks laminar://laminar/c" in why
    assert drops == {"handshake"}


@limited
async def test_a_certificate_of_another_cluster_is_refused(tmp_path, authority):
    ours = Authority(tmp_path, cluster="prod")
    mine = replace(IMPATIENT, tls=ours.certify("a"))
    trusted = tmp_path / "both.pem"
    trusted.write_bytes(ours.path.read_bytes() + authority.path.read_bytes())
    mine = replace(mine, tls=replace(mine.tls, ca=str(trusted)))
    yours = replace(IMPATIENT, tls=replace(authority.certify("b"), ca=str(trusted)))
    why, drops = await unreachable(mine, yours)
    assert "the certificate of a lacks laminar://laminar/a" in why
    assert drops == {"certificate"}


@limited
async def test_a_stranger_with_a_certificate_of_its_own_making_is_refused(tmp_path, authority):
    forged = replace(Authority(tmp_path).certify("a"), ca=authority.path)
    why, drops = await unreachable(
        replace(IMPATIENT, tls=forged), replace(IMPATIENT, tls=authority.certify("b"))
    )
    assert "refused this side's certificate" in why
    assert drops == {"certificate"}


# -- a receiver that is not what it says -------------------------------------------------------


WELCOME = control.encode_welcome(Welcome("b", 1, 1 << 20, 10, False, {}))
CHALLENGE = control.encode_challenge(Challenge("b", bytes(32), bytes(8), bytes(32)))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (encode_frame(Kind.WELCOME, WELCOME), "the receiver did not prove"),
        (encode_frame(Kind.CHALLENGE, CHALLENGE), "a key that was not offered"),
    ],
    ids=["no proof", "an unknown key"],
)
@limited
async def test_a_receiver_that_does_not_prove_itself_gets_nothing(answer, why):
    heard = []

    async def impostor(listener):
        while True:
            try:
                stream = await listener.accept()
            except StreamClosedError:
                return
            with closing(stream):
                buffer = memoryview(bytearray(64 * KIB))
                try:
                    heard.append(bytes(buffer[: await stream.receive_into(buffer)]))
                    await stream.send_vectored([encode_preface(), answer])
                    while count := await stream.receive_into(buffer):
                        heard.append(bytes(buffer[:count]))
                except StreamError:
                    pass

    listener = await TcpNetwork().listen("127.0.0.1:0")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(impostor, listener)
        with pytest.raises(PeerUnreachableError, match=why):
            async with ShuffleSender("a", config=replace(IMPATIENT, keys=(OLD,))) as sender:
                sender.register_peer("b", listener.local_addr)
                await sender.send_to("b", Data(numbered(0, 10)))
                await sender.flush()
        listener.close()
    for piece in heard:
        decoder = FrameDecoder(lambda channel, length: None)
        decoder.buffer()[: len(piece) - PREFACE.size] = piece[PREFACE.size :]
        (frame,) = decoder.received(len(piece) - PREFACE.size)
        assert frame.kind == Kind.HELLO


# -- strangers and a session that is alive -----------------------------------------------------


@asynccontextmanager
async def alive(mine, yours):
    """A session whose connection must survive what happens in the block."""
    async with pair(mine, yours) as (sender, receiver):
        await sender.send_to("b", Watermark(1))
        await sender.flush()
        yield receiver
        await sender.send_to("b", Watermark(2))
        await sender.flush()
        assert sender.statistics().peers["b"].connections == 1
        assert [message for _, message in receiver.drain_available()] == [
            Watermark(1),
            Watermark(2),
        ]


@pytest.mark.parametrize("keys", [(), (NEW,)], ids=["no key", "another key"])
@pytest.mark.parametrize("node", ["a", "b", "c"])
@limited
async def test_an_impostor_supersedes_nobody(node, keys):
    """Not even by a newer life or a later round of the one it pretends to be."""
    config = replace(QUICK, keys=(OLD,))
    async with alive(config, config) as receiver:
        impostor = await Raw.dial(receiver.local_addr)
        await impostor.send(encode_preface(), hello(node, incarnation=2**63, round=99, keys=keys))
        (goodbye,) = await impostor.frames()
        assert goodbye.kind == Kind.CLOSE
        await impostor.cut_off()
        assert receiver.statistics().drops == {"identity" if node == "b" else "key": 1}


@pytest.mark.parametrize("proof", ["none", "zeros", "reflected"])
@limited
async def test_knowing_which_key_is_not_having_it(proof):
    config = replace(QUICK, keys=(OLD,))
    async with alive(config, config) as receiver:
        impostor = await Raw.dial(receiver.local_addr)
        await impostor.send(encode_preface(), hello("a", incarnation=2**63, keys=(OLD,)))
        (frame,) = await impostor.frames()
        challenge = control.decode_challenge(frame.body_bytes())
        body = {
            "none": encode_frame(Kind.OPEN, control.encode_channel_name("x")),
            "zeros": encode_frame(Kind.PROOF, b"\x81\xa5proof\xc4\x20" + bytes(32)),
            "reflected": encode_frame(Kind.PROOF, b"\x81\xa5proof\xc4\x20" + challenge.proof),
        }
        await impostor.send(body[proof])
        await impostor.cut_off()
        assert receiver.statistics().drops == {"order" if proof == "none" else "key": 1}


class Recorder:
    """TCP, and all that was sent on it."""

    def __init__(self) -> None:
        self.sent = []
        self._tcp = TcpNetwork()

    async def connect(self, addr):
        stream = await self._tcp.connect(addr)
        send = stream.send_vectored

        async def send_vectored(buffers):
            self.sent.append(b"".join(bytes(buffer) for buffer in buffers))
            await send(buffers)

        stream.send_vectored = send_vectored
        return stream

    async def listen(self, addr):
        return await self._tcp.listen(addr)


@limited
async def test_what_was_overheard_does_not_open_the_door_again():
    config = replace(QUICK, keys=(OLD,))
    recorder = Recorder()
    async with pair(config, config, network=recorder) as (sender, receiver):
        await sender.send_to("b", Watermark(1))
        await sender.flush()
        greeting, proof, *_ = recorder.sent
        replayed = await Raw.dial(receiver.local_addr)
        await replayed.send(greeting)
        await replayed.frames()
        await replayed.send(proof)
        await replayed.cut_off()
        assert receiver.statistics().drops == {"key": 1}
        await sender.send_to("b", Watermark(2))
        await sender.flush()
        assert sender.statistics().peers["b"].connections == 1


@limited
async def test_an_impostor_with_another_certificate_supersedes_nobody(authority):
    mine, yours = (replace(QUICK, tls=authority.certify(node)) for node in "ab")
    async with alive(mine, yours) as receiver:
        network = TlsNetwork(TcpNetwork(), authority.certify("evil"))
        with closing(await network.connect(receiver.local_addr)) as stream:
            await stream.send_vectored([encode_preface(), hello("a", incarnation=2**63)])
            buffer = memoryview(bytearray(KIB))
            with pytest.raises(StreamError):
                while await stream.receive_into(buffer):
                    pass
        with closing(await network.connect(receiver.local_addr)) as stream:
            await stream.send_vectored([encode_preface(), hello("evil")])  # its own name is fine
            await eventually(lambda: "evil" in receiver.statistics().peers)
        assert receiver.statistics().drops == {"certificate": 1}


# -- listening to the world --------------------------------------------------------------------


@pytest.mark.parametrize("addr", ["0.0.0.0:0", "[::]:0"])
@limited
async def test_nobody_listens_to_the_world_by_accident(addr):
    with pytest.raises(ConfigError, match=r"ShuffleConfig.keys or tls, or allow_unauthenticated"):
        async with ShuffleReceiver.bind("b", addr):
            pass


class Elsewhere:
    """A network where names resolve to an address that others can reach."""

    closed = False
    local_addr = "192.0.2.7:4000"

    async def listen(self, addr):
        return self

    async def accept(self):
        await anyio.sleep_forever()

    def close(self):
        self.closed = True


@limited
async def test_a_name_counts_as_what_it_resolves_to():
    network = Elsewhere()
    with pytest.raises(ConfigError, match=r"node7\.example:4000 lets other machines"):
        async with ShuffleReceiver.bind("b", "node7.example:4000", network=network):
            pass
    assert network.closed
    async with ShuffleReceiver.bind("b", "localhost:0"):
        pass


@limited
async def test_who_asks_or_says_so_may_listen_to_the_world(authority):
    for how in (
        {"keys": (OLD,)},
        {"tls": authority.certify("b")},
        {"allow_unauthenticated": True},
    ):
        async with ShuffleReceiver.bind("b", "0.0.0.0:0", config=replace(QUICK, **how)):
            pass
