"""What a receiver asks of whoever connects, before it shows anything of its sessions.

Pure; the driver is :mod:`laminar.shuffle.reception`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from laminar.config import ShuffleConfig
from laminar.errors import ProtocolError
from laminar.model import NodeId, node_uri
from laminar.shuffle import control
from laminar.shuffle.authentication import Challenger
from laminar.shuffle.frames import (
    KIND_NAMES,
    Frame,
    Kind,
    encode_frame,
    encode_preface,
    negotiate,
)
from laminar.shuffle.messages import Hello


class Greeting:
    """One connection until its peer has introduced itself.

    ``nonce`` is never used twice; without keys it is not used at all.
    """

    def __init__(
        self, local: NodeId, config: ShuffleConfig, keys: Sequence[bytes], nonce: bytes
    ) -> None:
        self.certified: Collection[str] | None = None
        """The URIs in the peer's certificate; None when it has shown none."""
        self._local = local
        self._config = config
        self._keys = keys
        self._nonce = nonce
        self._preface = encode_preface()
        self._preface_due = True
        self._challenger: Challenger | None = None
        self._hello: Hello | None = None

    def on_preface(self, preface: bytes) -> None:
        """Take in the first bytes.

        Raises :class:`~laminar.errors.ProtocolError` when they are not of this protocol.
        """
        negotiate(preface)
        if self._keys:
            self._challenger = Challenger(self._keys, self._nonce, self._local, preface)

    def on_frame(self, frame: Frame) -> bytes | Hello:
        """What to reply; or, at the end, the ``Hello`` of a peer that is who it says it is.

        Raises :class:`~laminar.errors.ProtocolError` when it may not come in.
        """
        if self._hello is None:
            return self._on_hello(_body(frame, Kind.HELLO, "Hello"))
        if self._challenger is not None:
            self._challenger.check(control.decode_proof(_body(frame, Kind.PROOF, "Proof")))
        return self._hello

    def _on_hello(self, body: bytes) -> bytes | Hello:
        self._hello = hello = control.decode_hello(body)
        if hello.cluster != self._config.cluster:
            raise ProtocolError("cluster", f"this node's cluster is not {hello.cluster!r}")
        if hello.node == self._local:
            raise ProtocolError("identity", f"{hello.node} is this node's own id")
        uri = node_uri(hello.cluster, hello.node)
        if self.certified is not None and uri not in self.certified:
            raise ProtocolError("certificate", f"the certificate of {hello.node} lacks {uri}")
        if self._challenger is not None:
            challenge = self._challenger.challenge(hello, body, self._preface)
            return self.prefaced(encode_frame(Kind.CHALLENGE, control.encode_challenge(challenge)))
        if hello.key_ids:
            raise ProtocolError(
                "key",
                f"{hello.node} asks for a key, and this node has none: set ShuffleConfig.keys "
                "or share a keyring",
            )
        return hello

    def prefaced(self, frame: bytes) -> bytes:
        """``frame`` to the peer, behind the preface if that was not sent yet."""
        preface = self._preface if self._preface_due else b""
        self._preface_due = False
        return preface + frame


def _body(frame: Frame, kind: int, name: str) -> bytes:
    if frame.kind != kind:
        raise ProtocolError("order", f"{KIND_NAMES[frame.kind]} instead of {name}")
    return frame.body_bytes()
