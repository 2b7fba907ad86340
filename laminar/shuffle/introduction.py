"""How a sender introduces itself on one connection, and has the receiver prove itself.

Pure; the counterpart is :mod:`laminar.shuffle.greeting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from laminar.errors import ProtocolError
from laminar.shuffle import control
from laminar.shuffle.authentication import Prover
from laminar.shuffle.frames import Kind, encode_frame, encode_preface
from laminar.shuffle.messages import Challenge, Hello


class Introduction:
    """One connection until the receiver has let this side in.

    ``nonce`` is never used twice; without keys it is not used at all.
    """

    def __init__(self, hello: Hello, keys: Sequence[bytes], nonce: bytes) -> None:
        self._prover = Prover(keys, nonce) if keys else None
        if self._prover is not None:
            hello = replace(hello, nonce=nonce, key_ids=self._prover.key_ids)
        self._body = control.encode_hello(hello)
        self._proven = False
        self.peer_preface = b""
        """The first bytes from the receiver."""

    @property
    def frame(self) -> bytes:
        """The HELLO frame."""
        return encode_frame(Kind.HELLO, self._body)

    def answer(self, challenge: Challenge) -> bytes:
        """The PROOF frame, now that the receiver has proven that it has the key.

        Raises :class:`~laminar.errors.ProtocolError` when it has not.
        """
        if self._prover is None or self._proven:
            raise ProtocolError("order", "a Challenge that was not asked for")
        preface = encode_preface()
        proof = self._prover.answer(challenge, preface, self.peer_preface, self._body)
        self._proven = True
        return encode_frame(Kind.PROOF, control.encode_proof(proof))

    def check_proven(self) -> None:
        """Raise :class:`~laminar.errors.ProtocolError` if the receiver skipped its proof."""
        if self._prover is not None and not self._proven:
            raise ProtocolError("key", "the receiver did not prove that it has the key")
