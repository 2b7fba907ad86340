"""The proof, on both sides of a new connection, of a key that all nodes of a cluster share.

::

    sender   → receiver   Hello      a nonce, and the ids of the keys it has
    receiver → sender     Challenge  a nonce, the id of the key to use, the receiver's proof
    sender   → receiver   Proof      the sender's proof
    receiver → sender     Welcome    the first word about the session

A proof is the HMAC-SHA256 (RFC 2104) of the transcript: all that both sides have said, their
nonces among it, behind the role of the one who proves. So a proof fits no other connection, no
other node, round or protocol version, and cannot be sent back to the one it came from.

Pure: the drivers bring the nonces. See ``docs/design/security.md`` for what this is good for.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from laminar.cluster.keyring import Keyring
from laminar.config import ShuffleConfig
from laminar.errors import ConfigError, ProtocolError
from laminar.model import NodeId
from laminar.shuffle.messages import Challenge, Hello, Proof

NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
KEY_ID_BYTES: Final = 8

Role: TypeAlias = Literal["sender", "receiver"]


def key_id(key: bytes) -> bytes:
    """What a key is called on the wire: enough to find it, too little to learn it."""
    return hmac.digest(key, b"laminar key id", "sha256")[:KEY_ID_BYTES]


def keyring_of(config: ShuffleConfig, keyring: Keyring | None) -> Keyring | None:
    """The keys of a sender or receiver: the ring it shares with others, or one of its own."""
    if keyring is None and config.keys:
        return Keyring(config.keys)
    return keyring


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said before the proofs, as it was on the wire."""

    sender_preface: bytes
    receiver_preface: bytes
    hello: bytes
    """The body of the ``Hello`` frame: cluster, node, incarnation, round, nonce, key ids."""
    node: NodeId
    """The receiver's."""
    nonce: bytes
    """The receiver's."""
    key_id: bytes

    def proof(self, role: Role, key: bytes) -> bytes:
        """The proof that ``role`` has ``key``. Each part is preceded by its length."""
        mac = hmac.new(key, digestmod="sha256")
        for part in (
            b"laminar authentication 1",
            role.encode(),
            self.sender_preface,
            self.receiver_preface,
            self.hello,
            self.node.encode(),
            self.nonce,
            self.key_id,
        ):
            mac.update(len(part).to_bytes(4, "little"))
            mac.update(part)
        return mac.digest()

    def check(self, role: Role, key: bytes, proof: bytes) -> None:
        """Raise :class:`~laminar.errors.ProtocolError` unless ``role`` has ``key``."""
        if not hmac.compare_digest(self.proof(role, key), proof):
            raise ProtocolError("key", f"the {role} did not prove that it has the key")


class Prover:
    """The sender's side, for one connection."""

    def __init__(self, keys: Sequence[bytes], nonce: bytes) -> None:
        _check(nonce)
        self._keys = {key_id(key): key for key in keys}

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """What to offer, in order of preference."""
        return tuple(self._keys)

    def answer(
        self, challenge: Challenge, sender_preface: bytes, receiver_preface: bytes, hello: bytes
    ) -> Proof:
        """Check the receiver's proof, and give the sender's.

        Raises :class:`~laminar.errors.ProtocolError` when the receiver has not the key.
        """
        key = self._keys.get(challenge.key_id)
        if key is None:
            raise ProtocolError("key", "the receiver chose a key that was not offered")
        transcript = Transcript(
            sender_preface,
            receiver_preface,
            hello,
            challenge.node,
            challenge.nonce,
            challenge.key_id,
        )
        transcript.check("receiver", key, challenge.proof)
        return Proof(transcript.proof("sender", key))


class Challenger:
    """The receiver's side, for one connection."""

    def __init__(
        self, keys: Sequence[bytes], nonce: bytes, local: NodeId, sender_preface: bytes
    ) -> None:
        self._keys = {key_id(key): key for key in keys}
        _check(nonce)
        self._nonce = nonce
        self._local = local
        self._sender_preface = sender_preface
        self._transcript: Transcript | None = None

    def challenge(self, hello: Hello, body: bytes, receiver_preface: bytes) -> Challenge:
        """The answer to ``hello``, of which ``body`` is what was received.

        Raises :class:`~laminar.errors.ProtocolError` when it offers no key of this side.
        """
        chosen = next((offered for offered in hello.key_ids if offered in self._keys), None)
        if chosen is None:
            raise ProtocolError("key", refusal(hello))
        self._transcript = transcript = Transcript(
            self._sender_preface, receiver_preface, body, self._local, self._nonce, chosen
        )
        proof = transcript.proof("receiver", self._keys[chosen])
        return Challenge(self._local, self._nonce, chosen, proof)

    def check(self, proof: Proof) -> None:
        """Raise :class:`~laminar.errors.ProtocolError` unless the sender has the key."""
        if self._transcript is None:
            raise ProtocolError("order", "Proof before a Challenge")
        key = self._keys[self._transcript.key_id]
        self._transcript.check("sender", key, proof.proof)


def refusal(hello: Hello) -> str:
    """Why a receiver with keys refuses ``hello``."""
    if hello.key_ids:
        return f"{hello.node} offers no key that is valid here; give both sides a common one"
    return (
        f"{hello.node} offers no key, and this node asks for one: set ShuffleConfig.keys "
        "or share a keyring"
    )


def _check(nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise ConfigError(f"a nonce has {NONCE_BYTES} bytes, got {len(nonce)}")
