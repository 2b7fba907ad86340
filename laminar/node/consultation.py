"""What a doctor asks of all nodes, and what they answer: keys and values of the KV.

A doctor is a member that examines its cluster. It writes ``doctor:ask`` in its slot; whoever sees
that tries to reach it, and writes ``doctor:answer:<its id>`` in its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from laminar.errors import ProtocolError
from laminar.net.address import parse_addr

ASK_KEY: Final = "doctor:ask"
ANSWER_PREFIX: Final = "doctor:answer:"
DETAIL_LENGTH_MAX: Final = 200

T = TypeVar("T", "Ask", "Answer")


@dataclass(frozen=True, slots=True)
class Ask:
    """Please dial me."""

    addr: str
    """Where, ``host:port``."""
    nonce: str
    """To be told from what another doctor of that name asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    nonce: str
    """That of the question."""
    reach: str
    """The value of a :class:`~laminar.shuffle.probe.Reach`."""
    reason: str
    detail: str
    wall_s: float
    """The clock of the node that answers, in seconds since 1970."""
    version: str
    """Of Laminar there."""


def answer_key(doctor: str) -> str:
    """Under which key ``doctor`` is answered."""
    return ANSWER_PREFIX + doctor


def encode(message: Ask | Answer) -> str:
    """As text."""
    return msgspec.json.encode(message).decode()


def decode_ask(text: str) -> Ask:
    """Read what :func:`encode` wrote.

    Raises :class:`~laminar.errors.ProtocolError` when it is anything else.
    """
    ask = _decode(text, Ask)
    try:
        parse_addr(ask.addr)
    except ValueError as error:
        raise ProtocolError("doctor", f"a doctor has no address: {error}") from error
    return ask


def decode_answer(text: str) -> Answer:
    """Read what :func:`encode` wrote.

    Raises :class:`~laminar.errors.ProtocolError` when it is anything else.
    """
    return _decode(text, Answer)


def _decode(text: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError("doctor", f"no {kind.__name__} of a doctor: {error}") from error
