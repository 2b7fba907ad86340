"""Datagrams that only holders of a shared key can read or make, and that count only once.

::

    version u8 = 1 | cluster 4 | key id 4 | life 12 | number u64 | ciphertext | tag 16
                                                   plaintext:  length u8 | sender | payload

Little-endian. All before the ciphertext, and the whole name of the cluster, is associated data.

A *life* is one sealer's: 96 random bits, drawn anew at every start. Its datagrams are numbered,
and no number is used twice. The AES-256 key of a datagram is derived by HMAC-SHA256 (the expand
step of HKDF, RFC 5869) from the shared key, the life and the upper half of the number, and its
96-bit nonce is the lower half. So a nonce never repeats under a key, without anything kept on
disk, and no key seals more than 2^32 datagrams.

Pure but for the cipher: the driver draws the life. See ``docs/design/gossip-security.md``.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from laminar.cluster.keyring import KEY_ID_BYTES, Keyring
from laminar.cluster.replay import ReplayWindow
from laminar.cluster.tenure import Tenure
from laminar.config import DatagramConfig
from laminar.errors import ConfigError, ProtocolError
from laminar.model import NodeId, node_id

VERSION: Final = 1
LIFE_BYTES: Final = 12
TAG_BYTES: Final = 16
UNSEALED: Final = bytes(KEY_ID_BYTES)
"""In place of the key id: sealed with no key at all."""

_HEADER: Final = struct.Struct(f"<B4s{KEY_ID_BYTES}s{LIFE_BYTES}sQ")


class Opened(NamedTuple):
    """What a datagram held, and who made it."""

    sender: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class SealStatistics:
    """A snapshot of one sealer."""

    sealed: int
    opened: int
    senders: int
    """Lives of other nodes whose numbers are remembered."""
    refused: Mapping[str, int]
    """Datagrams not opened, by reason."""
    refused_from: Mapping[str, str]
    """The address that the last one of each reason came from."""


class Refusals:
    """Datagrams that were not opened, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sources: dict[str, str] = {}
        """Where the last one of each came from."""

    def note(self, reason: str, source: str) -> None:
        """One more."""
        self.counts[reason] += 1
        self.sources[reason] = source


class Sealer(Protocol):
    """Makes datagrams of payloads and payloads of datagrams, for one node."""

    @property
    def payload_bytes_max(self) -> int:
        """The largest payload that fits a datagram."""
        ...

    def seal(self, payload: bytes, target: str = "") -> bytes:
        """Return a datagram that holds ``payload``, for the address ``target`` if it is known.

        Raises :class:`~laminar.errors.ConfigError` when it is larger than
        :attr:`payload_bytes_max`.
        """
        ...

    def open(self, datagram: bytes, source: str, now: float) -> Opened:
        """Return what ``datagram``, received from the address ``source``, holds.

        Raises :class:`~laminar.errors.ProtocolError`, counted by its reason, when it is not
        to be read; nothing but the counter changes then. See :data:`REASONS`.
        """
        ...

    def statistics(self) -> SealStatistics:
        """A snapshot."""
        ...


REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "size": "larger than any datagram that is sent",
        "short": "too short for what it must hold",
        "version": "of another version of the protocol",
        "cluster": "of another cluster",
        "unsealed": "sealed with no key, where keys are asked for",
        "key": "sealed with a key that is not in the keyring",
        "forged": "changed on the way, or made without the key that it names",
        "sender": "from a sender with no valid name",
        "echo": "made by this node itself, and sent back",
        "replay": "opened before",
        "late": "overtaken by so many others that it may have been opened before",
    }
)
"""Why a datagram is refused, in the order in which it is looked at."""


class DatagramSealer:
    """The :class:`Sealer` of one life of one node.

    Without a keyring datagrams have the same form, but anybody can read and make them: they
    are only told from those that were damaged or meant for another cluster.
    """

    def __init__(
        self,
        cluster: str,
        node: NodeId,
        life: bytes,
        keyring: Keyring | None,
        config: DatagramConfig | None = None,
    ) -> None:
        """Seal as ``node``; ``life`` is ``secrets.token_bytes(LIFE_BYTES)``, never one used before.

        Changes of ``keyring`` count from the next datagram on.
        Raises :class:`~laminar.errors.ConfigError` when ``life`` or ``node`` is not valid.
        """
        if len(life) != LIFE_BYTES:
            raise ConfigError(f"the life of a sealer has {LIFE_BYTES} bytes, got {len(life)}")
        self._config = config if config is not None else DatagramConfig()
        self._cluster = cluster.encode()
        self._cluster_id = hashlib.sha256(self._cluster).digest()[:4]
        self._keyring = keyring
        self._life = life
        self._number = 0
        name = node_id(node).encode()
        self._preamble = len(name).to_bytes(1, "little") + name
        self._windows: Tenure[tuple[bytes, NodeId], ReplayWindow] = Tenure(
            self._config.senders_max, self._config.sender_idle_s
        )
        self._asked: tuple[str, bytes] = ("", UNSEALED)
        """Where the last datagram came from, and the id of its key."""
        self._opened = 0
        self._refusals = Refusals()

    @property
    def payload_bytes_max(self) -> int:
        """The largest payload that fits a datagram."""
        overhead = _HEADER.size + TAG_BYTES + len(self._preamble)
        return self._config.datagram_bytes_max - overhead

    def statistics(self) -> SealStatistics:
        """A snapshot."""
        return SealStatistics(
            sealed=self._number,
            opened=self._opened,
            senders=len(self._windows),
            refused=MappingProxyType(dict(self._refusals.counts)),
            refused_from=MappingProxyType(dict(self._refusals.sources)),
        )

    def seal(self, payload: bytes, target: str = "") -> bytes:
        """Return a datagram that holds ``payload``; see :meth:`Sealer.seal`.

        It is sealed with the primary key, but an answer to the datagram that was opened last
        with the key of that one: who asks may not have the new key yet.
        """
        if len(payload) > self.payload_bytes_max:
            raise ConfigError(
                f"a payload of {len(payload)} bytes does not fit a datagram, at most "
                f"{self.payload_bytes_max} do"
            )
        number, self._number = self._number, self._number + 1
        identity, key = self._key_for(target)
        header = _HEADER.pack(VERSION, self._cluster_id, identity, self._life, number)
        inside = self._preamble + payload
        if key is None:
            return header + inside + self._checksum(header, inside)
        cipher, nonce = _cipher(key, self._life, number)
        return header + cipher.encrypt(nonce, inside, header + self._cluster)

    def _key_for(self, target: str) -> tuple[bytes, bytes | None]:
        ring = self._keyring
        if ring is None:
            return UNSEALED, None
        source, identity = self._asked
        key = ring.key(identity) if source == target else None
        return (ring.primary, ring.primary_key) if key is None else (identity, key)

    def open(self, datagram: bytes, source: str, now: float) -> Opened:
        """Return what ``datagram`` holds; see :meth:`Sealer.open`."""
        try:
            opened = self._open(datagram, source, now)
        except ProtocolError as error:
            self._refusals.note(error.reason, source)
            raise
        self._opened += 1
        return opened

    def _open(self, datagram: bytes, source: str, now: float) -> Opened:
        if len(datagram) > self._config.datagram_bytes_max:
            raise _refusal("size", source)
        if len(datagram) < _HEADER.size + TAG_BYTES:
            raise _refusal("short", source)
        version, cluster_id, identity, life, number = _HEADER.unpack_from(datagram)
        if version != VERSION:
            raise _refusal("version", source)
        if cluster_id != self._cluster_id:
            raise _refusal("cluster", source)
        header, body = datagram[: _HEADER.size], datagram[_HEADER.size :]
        if self._keyring is None:
            inside = self._verify(identity, header, body, source)
        else:
            inside = self._decrypt(identity, life, number, header, body, source)
        opened = _split(inside, source)
        if life == self._life:
            raise _refusal("echo", source)
        if self._keyring is not None:
            self._see((life, opened.sender), number, source, now)
            self._asked = (source, identity)
        return opened

    def _decrypt(
        self, identity: bytes, life: bytes, number: int, header: bytes, body: bytes, source: str
    ) -> bytes:
        if identity == UNSEALED:
            raise _refusal("unsealed", source)
        key = None if self._keyring is None else self._keyring.key(identity)
        if key is None:
            raise _refusal("key", source)
        cipher, nonce = _cipher(key, life, number)
        try:
            return cipher.decrypt(nonce, body, header + self._cluster)
        except InvalidTag:
            raise _refusal("forged", source) from None

    def _verify(self, identity: bytes, header: bytes, body: bytes, source: str) -> bytes:
        if identity != UNSEALED:
            raise _refusal("key", source)
        inside, checksum = body[:-TAG_BYTES], body[-TAG_BYTES:]
        if checksum != self._checksum(header, inside):
            raise _refusal("forged", source)
        return inside

    def _checksum(self, header: bytes, inside: bytes) -> bytes:
        return hashlib.sha256(header + self._cluster + inside).digest()[:TAG_BYTES]

    def _see(self, who: tuple[bytes, NodeId], number: int, source: str, now: float) -> None:
        window = self._windows.get(who)
        if window is None:
            window = ReplayWindow(self._config.reordered_max)
            self._windows.put(who, window, now)
        verdict = window.see(number)
        if verdict != "new":
            # Nobody keeps a place in the table by repeating what its holder once said.
            raise _refusal(verdict, source)
        self._windows.seen(who, now)


def _cipher(key: bytes, life: bytes, number: int) -> tuple[AESGCM, bytes]:
    """The cipher and the nonce that one datagram is sealed with, and no other."""
    info = b"laminar gossip 1" + life + (number >> 32).to_bytes(4, "little")
    own = hmac.digest(key, info + b"\x01", "sha256")
    return AESGCM(own), (number & 0xFFFF_FFFF).to_bytes(12, "little")


def _split(inside: bytes, source: str) -> Opened:
    length = inside[0] if inside else 0
    try:
        sender = node_id(inside[1 : 1 + length].decode("ascii"))
    except (ConfigError, UnicodeDecodeError):
        raise _refusal("sender", source) from None
    if len(sender) != length:
        raise _refusal("sender", source)
    return Opened(sender, inside[1 + length :])


def _refusal(reason: str, source: str) -> ProtocolError:
    return ProtocolError(reason, f"a datagram from {source} is {REASONS[reason]}")
