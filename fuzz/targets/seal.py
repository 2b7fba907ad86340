"""Sealed datagrams: opened if a holder of a key made them, once; refused for the right reason.

An input is a list of steps: datagrams of any bytes, well-formed ones again and again, damaged
ones, forged ones, and changes of the keyring. A plain opener of a few lines says what has to come
of each. Whatever is refused changes one counter by one, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fuzz.broken import expect
from fuzz.reading import Bytes
from fuzz.state import state_of
from laminar.cluster.keyring import Keyring, key_id
from laminar.cluster.seal import LIFE_BYTES, REASONS, DatagramSealer, Opened
from laminar.config import DatagramConfig
from laminar.errors import ConfigError, ProtocolError
from laminar.model import NodeId, node_id

CLUSTER, SOURCE = "fuzzed", "192.0.2.1:7000"
KEYS = (b"k" * 32, b"o" * 32, b"never" * 7)
"""Of the keyring at first, one that it may get, and one that it never has."""
LIVES = tuple(bytes([number]) * LIFE_BYTES for number in range(4))
"""The first is that of the opener under test."""
HEADER = struct.Struct("<B4s4s12sQ")
TAG_BYTES = 16
CONFIG = DatagramConfig(datagram_bytes_max=512, reordered_max=8, senders_max=64)
SMALL = DatagramConfig(datagram_bytes_max=512, reordered_max=8, senders_max=2, sender_idle_s=9.0)
STEPS_MAX = 64
NUMBERS = (0, 1, 2, 7, 8, 9, 2**32 - 1, 2**32, 2**63, 2**64 - 1)


def _recorded() -> tuple[bytes, ...]:
    """Datagrams as their makers sent them. Append only: the corpus counts on the order."""
    mine = (
        DatagramSealer(CLUSTER, NodeId("me"), LIVES[0], Keyring([KEYS[0]]), CONFIG),
        DatagramSealer(CLUSTER, NodeId("me"), LIVES[0], None, CONFIG),
    )
    honest = DatagramSealer(CLUSTER, NodeId("a"), LIVES[1], Keyring([KEYS[0]]), CONFIG)
    other = DatagramSealer(CLUSTER, NodeId("b" * 128), LIVES[2], Keyring([KEYS[1]]), CONFIG)
    plain = DatagramSealer(CLUSTER, NodeId("a"), LIVES[1], None, CONFIG)
    never = DatagramSealer(CLUSTER, NodeId("c"), LIVES[3], Keyring([KEYS[2]]), CONFIG)
    away = DatagramSealer("another", NodeId("a"), LIVES[1], Keyring([KEYS[0]]), CONFIG)
    there = DatagramSealer("another", NodeId("a"), LIVES[1], None, CONFIG)
    sent = [honest.seal(b"x" * number) for number in range(12)]
    sent += [other.seal(b"other"), plain.seal(b"plain"), plain.seal(b""), never.seal(b"never")]
    sent += [away.seal(b"away"), there.seal(b"there"), *(sealer.seal(b"own") for sealer in mine)]
    return (*sent, honest.seal(bytes(honest.payload_bytes_max)))


RECORDED = _recorded()


class _Plain:
    """Opens datagrams without a thought for speed or memory."""

    def __init__(self, ring: Keyring | None) -> None:
        self._ring = ring
        self._seen: dict[tuple[bytes, NodeId], set[int]] = {}

    def open(self, datagram: bytes) -> str | Opened:
        """What it holds, or why not."""
        if len(datagram) > CONFIG.datagram_bytes_max:
            return "size"
        if len(datagram) < HEADER.size + TAG_BYTES:
            return "short"
        version, cluster, key, life, number = HEADER.unpack_from(datagram)
        if version != 1:
            return "version"
        if cluster != hashlib.sha256(CLUSTER.encode()).digest()[:4]:
            return "cluster"
        inside = self._inside(key, life, number, datagram)
        if isinstance(inside, str):
            return inside
        length, name = inside[0] if inside else 0, inside[1 : 1 + (inside[0] if inside else 0)]
        try:
            sender = node_id(name.decode("ascii"))
        except (ConfigError, UnicodeDecodeError):
            return "sender"
        if len(name) != length:
            return "sender"
        if life == LIVES[0]:
            return "echo"
        again = self._again((life, sender), number) if self._ring is not None else None
        return again or Opened(sender, inside[1 + length :])

    def _inside(self, key: bytes, life: bytes, number: int, datagram: bytes) -> str | bytes:
        header, body = datagram[: HEADER.size], datagram[HEADER.size :]
        if self._ring is None:
            if key != bytes(4):
                return "key"
            return body[:-TAG_BYTES] if body == _checked(header, body[:-TAG_BYTES]) else "forged"
        shared = [known for known in KEYS if key_id(known) == key and key in self._ring.ids]
        if key == bytes(4) or not shared:
            return "unsealed" if key == bytes(4) else "key"
        cipher, nonce = _cipher(shared[0], life, number)
        try:
            return cipher.decrypt(nonce, body, header + CLUSTER.encode())
        except InvalidTag:
            return "forged"

    def _again(self, who: tuple[bytes, NodeId], number: int) -> str | None:
        seen = self._seen.setdefault(who, set())
        if seen and number <= max(seen) - CONFIG.reordered_max:
            return "late"
        if number in seen:
            return "replay"
        seen.add(number)
        return None


def _checked(header: bytes, inside: bytes) -> bytes:
    return inside + hashlib.sha256(header + CLUSTER.encode() + inside).digest()[:TAG_BYTES]


def _cipher(key: bytes, life: bytes, number: int) -> tuple[AESGCM, bytes]:
    info = b"laminar gossip 1" + life + (number >> 32).to_bytes(4, "little") + b"\x01"
    own = hmac.digest(key, info, "sha256")
    return AESGCM(own), (number % 2**32).to_bytes(12, "little")


def check(data: bytes) -> None:
    """Open one datagram after the other, and look at the opener after each."""
    source = Bytes(data)
    mode = source.u8()
    ring = Keyring([KEYS[0]]) if mode & 1 else None
    config = SMALL if mode & 2 else CONFIG
    sealer = DatagramSealer(CLUSTER, NodeId("me"), LIVES[0], ring, config)
    plain, now = _Plain(ring), 0.0
    for _ in range(STEPS_MAX):
        if source.exhausted:
            break
        what = source.u8()
        if what < 0x10:
            now += what
        elif what < 0x20:
            _change_keys(ring, what)
        else:
            _open(sealer, plain, _datagram(source, what, ring is not None), now, config)


def _change_keys(ring: Keyring | None, what: int) -> None:
    if ring is None:
        return
    key = KEYS[what & 1]
    try:
        (ring.remove(key_id(key)) if what & 2 else ring.install(key))
        if what & 4:
            ring.use(key_id(key))
    except ConfigError:
        pass  # there already, the last one, or not there


def _datagram(source: Bytes, what: int, keyed: bool) -> bytes:
    """Any bytes; or a recorded datagram, whole or damaged; or what a holder of the key makes."""
    if what < 0x40:
        return source.take(source.u16() % 600)
    if what < 0xC0:
        datagram = bytearray(RECORDED[source.u8() % len(RECORDED)])
        if what >= 0x60:
            _damage(datagram, source, what)
        return bytes(datagram)
    life, number = LIVES[what & 3], NUMBERS[source.u8() % len(NUMBERS)]
    key, inside = KEYS[what >> 2 & 1], source.take(source.u8())
    cluster = hashlib.sha256(CLUSTER.encode()).digest()[:4]
    if not keyed:
        header = HEADER.pack(1, cluster, bytes(4), life, number)
        return header + _checked(header, inside)
    header = HEADER.pack(1, cluster, key_id(key), life, number)
    cipher, nonce = _cipher(key, life, number)
    return header + cipher.encrypt(nonce, inside, header + CLUSTER.encode())


def _damage(datagram: bytearray, source: Bytes, what: int) -> None:
    for _ in range(1 + what % 3):
        at = source.u16() % len(datagram)
        if what & 0x20:
            datagram[at] ^= source.u8()
        elif what & 4:
            datagram[at:at] = source.take(source.u8() % 16)
        else:
            del datagram[max(1, at) :]


def _open(
    sealer: DatagramSealer, plain: _Plain, datagram: bytes, now: float, config: DatagramConfig
) -> None:
    before, told = state_of(sealer), sealer.statistics()
    expected = plain.open(datagram)
    try:
        found: str | Opened = sealer.open(datagram, SOURCE, now)
    except ProtocolError as error:
        found = error.reason
        expect(SOURCE in error.detail and REASONS[found] in error.detail, "the error says little")
        same = state_of(sealer) == before
        expect(same, f"a datagram refused as {found!r} changed something")
    after = sealer.statistics()
    expect(after.senders <= config.senders_max, "too many senders are remembered")
    refused = {found: 1} if isinstance(found, str) else {}
    expect(after.opened == told.opened + (not refused), "opened datagrams are miscounted")
    grown = {why: count - told.refused.get(why, 0) for why, count in after.refused.items()}
    expect({why: count for why, count in grown.items() if count} == refused, "miscounted")
    if config is CONFIG or expected not in ("replay", "late"):
        # Where few senders are remembered, what one of them said before may open again.
        expect(found == expected, f"{found!r:.200} instead of {expected!r:.200}")


def seeds() -> Iterator[tuple[str, bytes]]:
    """Traffic of honest nodes, and every reason to refuse."""
    recorded = [bytes([0x40, number]) for number in range(len(RECORDED))]
    for name, mode in (("plain", 0), ("sealed", 1), ("sealed-crowded", 3)):
        first = bytes([mode])
        yield name, first + b"".join(recorded)
        yield f"{name}-twice", first + b"".join(recorded[:3] * 2)
        yield f"{name}-late", first + recorded[11] + b"".join(recorded[:12])
        yield f"{name}-flipped", first + b"\x60\x01\x15\x00\x01\x60\x03\x30\x00\x80"
        yield f"{name}-version", first + b"\xa2\x01\x00\x00\x03" + b"\x00\x00\x00" * 2
        yield f"{name}-cut", first + b"\x83\x05\x2c\x00"
        yield f"{name}-longer", first + b"\x84\x05\x20\x00\x03abc"
        yield f"{name}-any", first + b"\x20\x40\x00" + bytes(range(64)) + b"\x20\x05\x00hello"
        inside = (b"", b"\x01a", b"\x02a", b"\x03a b", b"\x02\xc3\xa4", b"\x00x")
        forged = b"".join(bytes([0xC1, 0, len(text)]) + text for text in inside)
        yield f"{name}-forged", first + forged
        jumps = b"".join(bytes([0xC1, number, 2]) + b"\x01a" for number in (9, 0, 8, 1, 7))
        yield f"{name}-jumps", first + jumps
        lives = b"".join(bytes([0xC0 + life, 2, 2]) + b"\x01b" for life in range(4))
        yield f"{name}-lives", first + lives + b"\x0a" + lives
        yield f"{name}-keys", first + b"\x11" + recorded[12] + b"\x15\x12" + recorded[0]
