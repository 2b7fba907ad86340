"""The part of every node that answers doctors, see :mod:`laminar.node.consultation`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import anyio

import laminar
from laminar.cluster.gossip.kv import GossipKv
from laminar.errors import ConfigError, NodeIdTakenError, ProtocolError
from laminar.model import NodeId
from laminar.node.consultation import (
    ASK_KEY,
    DETAIL_LENGTH_MAX,
    Answer,
    answer_key,
    decode_ask,
    encode,
)
from laminar.shuffle.probe import Prober

ANSWER_TTL_S: Final = 60.0
"""How long an answer is kept if the doctor does not leave."""

PAUSE_S: Final = 0.5
"""Between two examinations, of which there is one at a time: nobody makes a node dial faster."""


class Examiner:
    """Dials whoever asks for it, one at a time, and writes what came of it in the own slot."""

    def __init__(self, kv: GossipKv, prober: Callable[[], Prober]) -> None:
        """``prober`` makes one with the keys as they are at that time."""
        self._kv = kv
        self._prober = prober
        self._asked: dict[str, str] = {}
        """What each doctor that is there asked last."""
        self.unanswered = 0
        """How often there was no room for an answer in the own slot."""

    async def run(self) -> None:
        """Answer until this node is no member any more, or cancelled.

        A doctor that is gone before its turn is not dialled.
        """
        async with self._kv.watch(ASK_KEY) as events:
            async for event in events:
                if event.key == ASK_KEY and event.node != self._kv.local_node:
                    try:
                        await self._take(event.node, event.value)
                    except NodeIdTakenError:
                        return  # the node itself says so

    async def _take(self, doctor: NodeId, asked: str | None) -> None:
        if asked is None:
            self._asked.pop(doctor, None)
            await self._kv.delete(answer_key(doctor))
        elif self._asked.get(doctor) != asked:
            self._asked[doctor] = asked
            await self._examine(doctor, asked)
            await anyio.sleep(PAUSE_S)

    async def _examine(self, doctor: str, text: str) -> None:
        try:
            ask = decode_ask(text)
        except ProtocolError as error:
            nonce, reach, reason, detail = "", "nowhere", error.reason, error.detail
        else:
            probe = await self._prober().probe(ask.addr)
            nonce, reach, reason, detail = ask.nonce, probe.reach.value, probe.reason, probe.detail
        plain = detail.encode("ascii", "replace").decode()[:DETAIL_LENGTH_MAX]
        answer = Answer(nonce, reach, reason, plain, time.time(), laminar.__version__)
        try:
            await self._kv.write(answer_key(doctor), encode(answer), ttl_s=ANSWER_TTL_S)
        except ConfigError:
            self.unanswered += 1
