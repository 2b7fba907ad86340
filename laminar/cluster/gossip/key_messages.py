"""What nodes tell each other while a key is replaced: orders and reports, as text in their slots.

::

    order     number tag stage key-id retired-id|* all|live key|-
    report    number tag stage primary-id,key-id,... [trouble]

Ids, keys and tags are hexadecimal. A node publishes its report for as long as it runs, and an
order only while it coordinates a change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from laminar.cluster.keyring import KEY_ID_BYTES, key_id
from laminar.config import KEY_BYTES_MAX, KEY_BYTES_MIN, KEYS_MAX
from laminar.errors import ProtocolError

NUMBER_MAX: Final = 10**18 - 1
TAG_BITS: Final = 64
TROUBLE_LENGTH_MAX: Final = 80


class Stage(IntEnum):
    """How far a change of keys has come, with one order or on one node."""

    NONE = 0
    INSTALL = 1
    """The new key opens."""
    USE = 2
    """It seals, too."""
    REMOVE = 3
    """The old ones do not open any more."""


class Claim(NamedTuple):
    """Which change of keys: the higher one counts.

    The number is above all that its coordinator knew of; the tag is chance, so that no two are
    the same.
    """

    number: int
    tag: int


NO_CLAIM: Final = Claim(0, 0)


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """What a coordinator asks of everybody."""

    claim: Claim
    stage: Stage
    """How far everybody may go."""
    identity: bytes
    """The id of the key to use."""
    key: bytes | None = field(repr=False)
    """That key; ``None`` when everybody should have it already."""
    retired: bytes | None
    """The id of the key to remove in the end; ``None``: all others."""
    skip_dead: bool
    """Whether nobody waits for nodes that are dead."""

    def encode(self) -> str:
        """As text."""
        claim, retired, key = self.claim, self.retired, self.key
        return (
            f"{claim.number} {claim.tag:016x} {self.stage:d} {self.identity.hex()} "
            f"{'*' if retired is None else retired.hex()} {'live' if self.skip_dead else 'all'} "
            f"{'-' if key is None else key.hex()}"
        )


@dataclass(frozen=True, slots=True)
class KeyReport:
    """Which keys a node has, and how far it has followed which order."""

    claim: Claim
    stage: Stage
    """The last stage that it has taken, and saved."""
    primary: bytes
    """The id of the key that it seals with."""
    ids: tuple[bytes, ...]
    """The ids of all its keys."""
    trouble: str = ""
    """Why it cannot go on, if that is so."""

    def encode(self) -> str:
        """As text."""
        others = [identity for identity in self.ids if identity != self.primary]
        ids = ",".join(identity.hex() for identity in (self.primary, *others))
        trouble = _printable(self.trouble)
        return (
            f"{self.claim.number} {self.claim.tag:016x} {self.stage:d} {ids}"
            f"{' ' if trouble else ''}{trouble}"
        )


_CLAIM = r"([0-9]{1,18}) ([0-9a-f]{16})"
_ID = rf"[0-9a-f]{{{2 * KEY_ID_BYTES}}}"
_KEY = rf"(?:[0-9a-f]{{2}}){{{KEY_BYTES_MIN},{KEY_BYTES_MAX}}}"
_ORDER = re.compile(rf"{_CLAIM} ([1-3]) ({_ID}) ({_ID}|\*) (all|live) ({_KEY}|-)")
_REPORT = re.compile(
    rf"{_CLAIM} ([0-3]) ({_ID}(?:,{_ID}){{0,{KEYS_MAX - 1}}})"
    rf"(?: ([ -~]{{1,{TROUBLE_LENGTH_MAX}}}))?"
)


def decode_order(text: str) -> KeyOrder:
    """Read what :meth:`KeyOrder.encode` wrote.

    Raises :class:`~laminar.errors.ProtocolError` when it is anything else.
    """
    found = _ORDER.fullmatch(text)
    if found is None:
        raise ProtocolError("keys", "an order to change keys is not in its form")
    number, tag, stage, identity, retired, whom, key = found.groups()
    order = KeyOrder(
        Claim(int(number), int(tag, 16)),
        Stage(int(stage)),
        bytes.fromhex(identity),
        None if key == "-" else bytes.fromhex(key),
        None if retired == "*" else bytes.fromhex(retired),
        whom == "live",
    )
    if order.key is not None and key_id(order.key) != order.identity:
        raise ProtocolError("keys", "an order to change keys names another key than it holds")
    if order.retired == order.identity:
        raise ProtocolError("keys", "an order to change keys removes the key that it brings")
    return order


def decode_report(text: str) -> KeyReport:
    """Read what :meth:`KeyReport.encode` wrote.

    Raises :class:`~laminar.errors.ProtocolError` when it is anything else.
    """
    found = _REPORT.fullmatch(text)
    if found is None:
        raise ProtocolError("keys", "a report on keys is not in its form")
    number, tag, stage, ids, trouble = found.groups()
    known = tuple(bytes.fromhex(identity) for identity in ids.split(","))
    claim = Claim(int(number), int(tag, 16))
    return KeyReport(claim, Stage(int(stage)), known[0], known, trouble or "")


def _printable(text: str) -> str:
    plain = "".join(character if " " <= character <= "~" else "?" for character in text)
    return plain[:TROUBLE_LENGTH_MAX].strip()
