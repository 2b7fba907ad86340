"""The gossip of one node, among members who lie, strangers who guess and one who is honest.

An input is a list of steps: datagrams of any payload, damaged ones, well-formed ones that say what
is not so, exchanges with an honest node, ticks, and what the node's own user does. The seal is made
of glass here, so all of it gets in; see the target ``seal`` for the other one. What has to hold
after each step is in :mod:`fuzz.witness`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from fuzz.reading import Bytes
from fuzz.witness import ADDRS, CONFIG, NAMES, WALL_NS, Glass, Witness
from laminar.cluster.amplification import COOKIE_BYTES
from laminar.cluster.gossip.codec import NUMBER_MAX, TAG_BYTES, TTL_MS_MAX, VERSION, MessageWriter
from laminar.cluster.gossip.messages import (
    BULK,
    PRIORITY,
    Beats,
    Digest,
    Grave,
    Hint,
    Item,
    Kind,
    LaneDelta,
)
from laminar.errors import ConfigError
from laminar.model import Incarnation, NodeId

STEPS_MAX = 20
ROUNDS = 10
"""Of some steps at once: who has just started believes more than who is settled."""
AHEAD_NS = round(CONFIG.incarnation_ahead_s * 10**9)
KEYS = ("gossip:addr", "gossip:left", "shuffle:addr", "k", "l", "ä" * 128)
VALUES = (None, "", "1", ADDRS[2], "nonsense", "v" * 200, "v" * 500)
SMALL = (0, 1, 2, 3, 4, 5, 6, 9)
NUMBERS = (*SMALL, 2**32, 2**53, NUMBER_MAX - 1, NUMBER_MAX)
TTLS_MS = (None, None, 0, 1, 2500, TTL_MS_MAX)
PAUSES_S = (0.0, 0.001, 1.0, 1.0, 1.0, 7.0, 40.0, 700.0)


class _Story:
    """What happens to a node, as an input tells it."""

    def __init__(self, data: bytes) -> None:
        self.source = Bytes(data)
        self.me = Witness(0)

    @cached_property
    def honest(self) -> Witness:
        """Another node, once it is needed."""
        return Witness(1, self.me.now)

    def run(self) -> None:
        """Step by step."""
        for _ in range(STEPS_MAX):
            if self.source.exhausted:
                break
            what = self.source.u8()
            if what < 0x18:
                self._tick(what)
            elif what < 0x30:
                self._use(what)
            elif what < 0x40:
                self._exchange(what)
            elif what < 0x60:
                self._hear(what & 7, what, self.source.take(self.source.u16() % 1000))
            elif what < 0x80:
                self._hear(what & 1, what, self._damaged(what))
            else:
                self._hear(what & 7, what, self._lie(what))
            self.me.check()
        if "honest" in vars(self):
            self.honest.check()

    def _tick(self, what: int) -> None:
        for _ in range(ROUNDS if what & 8 else 1):
            self.me.now += PAUSES_S[what & 7]
            self.me.tick()
        if what & 0x10:
            self.honest.wait_until(self.me.now)
            self.honest.tick()

    def _use(self, what: int) -> None:
        """What the node's own user does."""
        node = self.honest if what & 8 else self.me
        core, now, choice = node.core, node.now, self.source.u8()
        key, value = KEYS[choice % 6], VALUES[1 + (choice >> 3) % 6] or ""
        try:
            match what & 7:
                case 0 | 1:
                    core.write(key, value, now)
                case 2:
                    core.write(key, value, now, (choice + 1) / 16)
                case 3:
                    core.delete(key, now)
                case 4:
                    core.reachable(NAMES[choice % 8], now)
                case 5:
                    core.unreachable(NAMES[choice % 8], now)
                case 6:
                    core.set_seeds(ADDRS[choice % 5 :])
                case _ if choice == 0xFF:
                    core.leave(now)
        except ConfigError:
            pass  # no room, too large, or reserved

    def _exchange(self, what: int) -> None:
        """One of the two speaks to the other, and all is answered."""
        self.honest.wait_until(self.me.now)
        one, other = (self.me, self.honest) if what & 1 else (self.honest, self.me)
        one.core.set_seeds((other.addr,))
        out = [out for out in one.tick() if out.addr == other.addr]
        for _ in range(what >> 1 & 7):
            out = [answer for told in out for answer in other.hear(one.addr, told.datagram)]
            one, other = other, one
        one.core.set_seeds(())

    def _hear(self, number: int, what: int, payload: bytes) -> None:
        """Somebody says something to the node, from somewhere."""
        answer = self.me.hear(_addr(what), Glass(NAMES[number])._head + payload)
        if what & 0x40:
            for out in answer:
                self.honest.hear(self.me.addr, out.datagram)

    def _damaged(self, what: int) -> bytes:
        """What the node said last, or the honest one, with a few bytes changed."""
        payload = bytearray((self.honest if what & 1 else self.me).sent)
        for _ in range(1 + (what >> 1 & 3)):
            at, size = self.source.u16() % (len(payload) + 1), self.source.u8()
            if size & 0x80:
                payload[at : at + 1] = self.source.take(size & 7)
            elif size & 0x40:
                del payload[at : at + (size & 7)]
            else:
                payload[at : at + (size & 7)] = self.source.take(size & 7)
        return bytes(payload)

    def _lie(self, what: int) -> bytes:
        """A message whose form is right."""
        shape, counts = self.source.u8(), self.source.u8()
        mine = NAMES[what % 8] if shape & 0x70 else NAMES[self.source.u8() % 8]
        cookie = next(reversed(self.me.cookies[_addr(what)]), b"")
        echoes = [b"", b"", b"x" * COOKIE_BYTES, cookie]
        own, limit = self._digest(mine), Glass(NAMES[what % 8]).payload_bytes_max
        kind = Kind.PUSH if shape & 0x40 else Kind(1 + (shape & 3))
        echo = echoes[shape >> 2 & 3]
        writer = MessageWriter(kind, b"c" * COOKIE_BYTES, echo, own, limit)
        writer.asks_proof = bool(shape & 0x80)
        for _ in range(counts & 3):
            writer.add_digest(self._digest(NAMES[self.source.u8() % 8]))
        for _ in range(counts >> 2 & 3):
            writer.add_delta(self._delta())
        for _ in range(counts >> 4 & 1):
            writer.add_grave(Grave(NAMES[self.source.u8() % 8], self._incarnation()))
        if counts & 0x20:
            node, heartbeat = NAMES[self.source.u8() % 8], NUMBERS[self.source.u8() % 12]
            writer.add_hint(Hint(node, self._incarnation(), heartbeat))
        if counts & 0x40:
            writer.add_beats(self._beats())
            writer.leaves_out_own = bool(shape & 0x20)
        if counts & 0x80:
            writer.pad(300)
        return writer.finish()

    def _digest(self, node: NodeId) -> Digest:
        incarnation = self._incarnation()
        choices = self.source.take(5).ljust(5, b"\0")
        return Digest(node, incarnation, *(NUMBERS[choice % 12] for choice in choices))

    def _incarnation(self) -> Incarnation:
        mine, theirs = self.me.core.incarnation, Incarnation(WALL_NS + 1)
        lives = (WALL_NS, mine, theirs, WALL_NS + AHEAD_NS, mine + AHEAD_NS, NUMBER_MAX, 5, 0)
        choice = self.source.u8()
        return Incarnation(min(NUMBER_MAX, max(0, lives[choice & 7] + (choice >> 4) - 8)))

    def _beats(self) -> Beats:
        """Heartbeats of the very view that the node has, or nearly."""
        roll, choice = self.me.core._view.roll, self.source.u8()
        start, count = choice & 3, choice >> 2 & 7
        slots = roll._look()[start : start + count]
        beats = [max(0, slot.heartbeat + self.source.u8() - 8) for slot in slots]
        tag = roll._tag(start, beats) if choice < 0xC0 else bytes(TAG_BYTES)
        low = [beat % 16 for beat in beats] + [0]
        packed = bytes(16 * one + next_ for one, next_ in zip(low[::2], low[1::2], strict=False))
        return Beats(start, packed, tag)

    def _delta(self) -> LaneDelta:
        node, choice = NAMES[self.source.u8() % 8], self.source.u8()
        start = _start(choice)
        version, items = start, []
        for _ in range(choice >> 4 & 3):
            version += 1 + self.source.u8() % 3
            value, ttl = VALUES[self.source.u8() % 7], TTLS_MS[self.source.u8() % 6]
            items.append(Item(KEYS[self.source.u8() % 6], version, value, ttl))
        # One step in three leads nowhere, and has to be refused.
        end, last = version + self.source.u8() % 3, self.source.u8()
        lane, gc = PRIORITY if last & 0x80 else BULK, NUMBERS[(last & 0x7F) % 12]
        return LaneDelta(node, self._incarnation(), lane, start, end, gc, items)


def _start(choice: int) -> int:
    """After which version a delta starts."""
    return NUMBERS[choice % 12] if choice >= 0xC0 else SMALL[choice % 8]


def _addr(what: int) -> str:
    return ADDRS[what >> 3 & 3]


def check(data: bytes) -> None:
    """Live through all of it."""
    _Story(data).run()


MEET, TICK, LATE, WRITE = b"\x3f\x3e", b"\x12", b"\x05", b"\x20\x03\x28\x0b"
OF_LIFE, FIRST, ECHO, LARGE = 0x80, 0x80, 12, 0x80
"""Of a digest: the life that everybody began with. Of changes: those that travel first. Of a
message: with the cookie that is asked for; padded."""


def _said(kind: Kind, *parts: bytes, counts: int = 0, shape: int = 0, who: int = 2) -> bytes:
    """The third node says something, from its address."""
    first = bytes([0xD0 | who, 0x10 | shape | (kind - 1), counts])
    return first + _of(1 + shape // ECHO) + b"".join(parts)


def _of(heartbeat: int, life: int = OF_LIFE, versions: bytes = bytes(4)) -> bytes:
    """A digest without its node."""
    return bytes([life, heartbeat]) + versions


def _changes(*items: tuple[int, int, int], node: int = 2, gc: int = 0, first: int = 0) -> bytes:
    """A delta with up to three changes: key, value, time to live."""
    told = b"".join(bytes([0, value, ttl, key]) for key, value, ttl in items)
    # One number chooses where it starts and how much there is.
    start = next(n for n in range(256) if n >> 4 & 3 == len(items) and _start(n) == first)
    return bytes([node, start]) + told + bytes([0, gc, OF_LIFE])


def _changed(*deltas: bytes) -> bytes:
    """The third node says what changed."""
    return _said(Kind.DELTA, *deltas, counts=4 * len(deltas))


HELLO = _said(Kind.SYN, counts=LARGE)
PROVEN = HELLO + _said(Kind.ACK, shape=ECHO)
"""The third node has shown that it gets what is sent to its address."""


def seeds() -> Iterator[tuple[str, bytes]]:
    """Good days, bad days and lies."""
    yield from _days()
    yield from _claims()
    yield from _told()


def _days() -> Iterator[tuple[str, bytes]]:
    yield "exchange", WRITE + MEET + TICK + MEET
    yield "keys", WRITE + MEET + b"\x2b\x0b\x20\x2c\x2a\x13" + MEET + LATE + MEET + b"\x16" * 2
    yield "silence", WRITE + MEET + LATE * 9 + b"\x06" * 3 + MEET
    yield "goodbye", WRITE + MEET + b"\x2f\xff" + b"\x33" + b"\x06" * 2
    yield "own-goodbye", WRITE + MEET + b"\x27\xff" + MEET
    yield "evidence", MEET + b"\x25\x01" + TICK + b"\x24\x01" + TICK
    yield "restless", (MEET + TICK) * 9
    another_version = b"\x42\x04\x00\x81\xa1v" + bytes([VERSION + 1])
    yield "any-payload", b"\x41\x05\x00hello\x40\x00\x00" + another_version
    yield "oversized", b"\x42\xe7\x03" + bytes(999)
    yield "damaged", MEET + b"\x62\x10\x00\x01\x7f" + b"\x66\x20\x00\x42\x30\x00\x82ab"
    yield "sent-back", MEET + b"\x60\x00\x00\x00" + b"\x61\x00\x00\x00"
    yield "stranger", HELLO
    yield "proven", PROVEN + HELLO
    asks = _said(Kind.SYN, b"\0" + _of(0, 0x81), counts=1)
    yield "asks-much", b"\x20\x21\x20\x22" + asks + PROVEN + asks
    yield "ghost", HELLO + b"\x0a" * 5 + HELLO


def _claims() -> Iterator[tuple[str, bytes]]:
    yield "another-sender", b"\xd2\x00\x00\x03" + _of(1)
    yield "many-nodes", _said(Kind.SYN, *(bytes([n]) + _of(1) for n in (3, 4, 5)), counts=3) * 2
    lives = {"own": 0x81, "newer": 0x91, "ahead": 0x84, "far": 0x94, "last": 0x85, "old": 0x07}
    for name, life in lives.items():
        yield f"claim-{name}", _said(Kind.SYN, b"\0" + _of(11, life), counts=1) + TICK + HELLO
        yield f"grave-{name}", _said(Kind.SYN, b"\0", bytes([life]), counts=0x10) + TICK + HELLO
    versions = b"\0" + _of(0, 0x81, b"\x0b\0\0\0")
    yield "claim-version", _said(Kind.SYN, versions, counts=1) + HELLO
    claims = [_said(Kind.SYN, b"\0" + _of(beat, 0x91), counts=1) + TICK for beat in range(8)]
    yield "double", b"\x0a" * 2 + b"".join(claims)
    view = b"\x08\x08\x08"
    yield "no-digest", MEET + TICK + _said(Kind.SYN, view, counts=0x40, shape=0x20) + TICK
    yield "no-digest-of-own", MEET + _said(Kind.SYN, view, counts=0x40, shape=0x20, who=0)
    yield (
        "push",
        PROVEN + _said(Kind.SYN, b"\3" + _of(1), _changes((3, 2, 0)), counts=5, shape=0x40),
    )
    yield "hint", PROVEN + _said(Kind.SYN, b"\0\x81\x01", counts=0x20) + TICK + HELLO
    yield "hint-of-another", MEET + _said(Kind.SYN, b"\1\x03\x80", counts=0x20) + TICK * 3
    yield "hint-ahead", PROVEN + _said(Kind.SYN, b"\0\x0b\x81", counts=0x20) + TICK
    views = {"same": b"\x08\x08\x08", "later": b"\x08\x09\x0b", "other": b"\xc8\x08\x08"}
    for name, beats in views.items():
        yield f"beats-{name}", MEET + TICK + _said(Kind.SYN, beats, counts=0x40) + TICK
    heard = b"\0" + _of(0, 0x81, b"\2\0\0\0")
    told = (_said(Kind.ACK, heard, counts=1, who=number) for number in range(2, 8))
    yield "farewells", b"\x27\xff" + b"".join(told)


def _told() -> Iterator[tuple[str, bytes]]:
    small, mortal, deleted = (3, 2, 0), (4, 2, 4), (3, 0, 0)
    yield "delta", PROVEN + _changed(_changes(small)) + HELLO
    yield "mortal", PROVEN + _changed(_changes(mortal)) + HELLO + LATE + HELLO
    both = _changes(small), _changes(deleted, first=1)
    yield "deleted", PROVEN + _changed(*both) + LATE * 3 + HELLO
    yield "begins-anew", PROVEN + _changed(_changes(small), _changes(mortal, gc=7)) + HELLO
    yield "gap", PROVEN + _changed(_changes(small, first=3))
    yield "of-another", PROVEN + _changed(_changes(small, node=0))
    yield "addr", PROVEN + _changed(_changes((0, 3, 0), gc=FIRST)) + TICK * 3
    yield "left", PROVEN + _changed(_changes((1, 2, 0), gc=FIRST)) + TICK + HELLO
    yield "large", PROVEN + _changed(_changes((3, 6, 0))) + HELLO
    yield "both-lanes", PROVEN + _changed(_changes(small), _changes(small, gc=FIRST))
    bulk = _changes((2, 5, 0), (3, 5, 0), (4, 5, 0))
    first = _changes((0, 5, 0), (1, 5, 0), (5, 5, 0), gc=FIRST)
    yield "full", PROVEN + _changed(bulk) + _changed(first) + HELLO
