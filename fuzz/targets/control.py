"""The bodies of control frames.

A decoder returns a value that survives another round, or raises ``ProtocolError``.
An input's first byte chooses the decoder, the rest is the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fuzz.broken import expect
from laminar.errors import ProtocolError
from laminar.model import BarrierFlags, CheckpointBarrier, CheckpointId, Epoch, Incarnation, NodeId
from laminar.shuffle import control
from laminar.shuffle.authentication import KEY_ID_BYTES, NONCE_BYTES, PROOF_BYTES
from laminar.shuffle.frames import HEADER_BYTES, PREFACE, encode_preface, negotiate
from laminar.shuffle.messages import Challenge, Close, Hello, Proof, Welcome


def _negotiate(body: bytes) -> int:
    return negotiate(body[: PREFACE.size].ljust(PREFACE.size, b"\0"))


Decoder = Callable[[bytes], Any]
Encoder = Callable[[Any], bytes]

PAIRS: tuple[tuple[Decoder, Encoder | None], ...] = (
    (_negotiate, None),
    (control.decode_hello, control.encode_hello),
    (control.decode_welcome, control.encode_welcome),
    (control.decode_channel_name, control.encode_channel_name),
    (control.decode_close, control.encode_close),
    (control.decode_barrier, lambda told: control.encode_barrier(*told)),
    (control.decode_timestamp, lambda time: control.encode_watermark(time, 0, 1)[HEADER_BYTES:]),
    (control.decode_vnode, control.encode_vnode),
    (control.decode_challenge, control.encode_challenge),
    (control.decode_proof, control.encode_proof),
)
"""Every decoder, and what turns its results back. Append only: the corpus counts on the order."""


def check(data: bytes) -> None:
    """Decode, encode and decode again."""
    if not data:
        return
    decode, encode = PAIRS[data[0] % len(PAIRS)]
    try:
        value = decode(data[1:])
    except ProtocolError:
        return
    if encode is not None:
        again = decode(encode(value))
        expect(again == value, f"{value!r} came back as {again!r}")


def seeds() -> Iterator[tuple[str, bytes]]:
    """One body for each decoder, and some at the edges."""
    node, life = NodeId("worker-1"), Incarnation(1_700_000_000)
    channels = {"default": (12, 9), "orders": (2**64 - 1, 0)}
    barrier = CheckpointBarrier(CheckpointId(7), Epoch(3), BarrierFlags.SAVEPOINT)
    nonce, key, proof = b"n" * NONCE_BYTES, b"k" * KEY_ID_BYTES, b"p" * PROOF_BYTES
    keyed = Hello("laminar", node, life, 2, nonce, (key, key))
    bodies = {
        "preface": encode_preface(),
        "hello": control.encode_hello(Hello("laminar", node, life, 1)),
        "welcome": control.encode_welcome(Welcome(node, life, 1 << 23, 1 << 14, True, channels)),
        "channel-name": control.encode_channel_name("orders"),
        "close": control.encode_close(Close("the receiver is done")),
        "barrier": control.encode_barrier(barrier, 41),
        "timestamp": bytes(7) + b"\x80",
        "vnode": control.encode_vnode(12) + b"arrow",
        "challenge": control.encode_challenge(Challenge(node, nonce, key, proof)),
        "proof": control.encode_proof(Proof(proof)),
    }
    for number, (name, body) in enumerate(bodies.items()):
        yield name, bytes([number]) + body
        yield f"{name}-cut", bytes([number]) + body[:-1]
    yield "hello-keyed", b"\x01" + control.encode_hello(keyed)
    yield "barrier-incomplete", b"\x05" + b"\x82\xa2id\x01\xa5epoch\x01"
    yield "deep", b"\x01" + b"\x91" * 600
    yield "endless", b"\x02" + b"\xdd\xff\xff\xff\xff"
    yield "timestamp-extension", b"\x01" + b"\x81\xa7cluster\xd6\xff" + b"\xff" * 4
