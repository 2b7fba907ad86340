"""Trying whether a receiver can be reached, without a session that anybody would miss."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import closing

import anyio

from laminar.errors import ConfigError, ProtocolError, StreamError, StreamUntrustedError
from laminar.model import NodeId, node_uri
from laminar.net.stream import ByteStream, Network, receive_exactly
from laminar.net.tls import certified
from laminar.shuffle import control
from laminar.shuffle.authentication import NONCE_BYTES
from laminar.shuffle.farewell import close_frame, tell
from laminar.shuffle.frames import PREFACE, Frame, FrameDecoder, Kind, encode_preface, negotiate
from laminar.shuffle.introduction import Introduction
from laminar.shuffle.messages import PROBE_INCARNATION, Hello
from laminar.shuffle.reach import Probe, Reach


class Prober:
    """Shakes hands with receivers, and says goodbye."""

    def __init__(
        self, local: NodeId, cluster: str, keys: Sequence[bytes], network: Network, timeout_s: float
    ) -> None:
        """``local`` introduces itself with ``keys``, all of them valid; each try has its time."""
        self._local = local
        self._cluster = cluster
        self._keys = keys
        self._network = network
        self._timeout_s = timeout_s

    async def probe(self, addr: str) -> Probe:
        """Try the receiver at ``addr`` (``host:port``). Raises nothing that comes from there."""
        try:
            with anyio.fail_after(self._timeout_s):
                stream = await self._network.connect(addr)
        except TimeoutError:
            return Probe(Reach.NOWHERE, "timeout", f"no answer within {self._timeout_s:g} s")
        except StreamUntrustedError as error:
            return Probe(Reach.CONNECTED, error.reason, error.detail)
        except StreamError as error:
            return Probe(Reach.NOWHERE, "network", str(error))
        except ConfigError as error:  # as somebody has published it
            return Probe(Reach.NOWHERE, "address", str(error))
        with closing(stream):
            try:
                with anyio.fail_after(self._timeout_s):
                    return await self._greet(stream)
            except TimeoutError:
                detail = f"it accepts, and then says nothing for {self._timeout_s:g} s"
                return Probe(Reach.CONNECTED, "timeout", detail)
            except (ProtocolError, StreamUntrustedError) as error:
                return Probe(Reach.CONNECTED, error.reason, error.detail)
            except StreamError as error:
                return Probe(Reach.CONNECTED, "network", str(error))

    async def _greet(self, stream: ByteStream) -> Probe:
        uris = await certified(stream)
        hello = Hello(self._cluster, self._local, PROBE_INCARNATION, round=1)
        introduction = Introduction(hello, self._keys, secrets.token_bytes(NONCE_BYTES))
        await stream.send_vectored([encode_preface(), introduction.frame])
        introduction.peer_preface = await receive_exactly(stream, PREFACE.size)
        negotiate(introduction.peer_preface)
        decoder = FrameDecoder(_no_data)
        decoder.open_for_data(_no_data, 0)
        while True:
            frame = await _receive(stream, decoder)
            body = frame.body_bytes()
            if frame.kind == Kind.CHALLENGE:
                proof = introduction.answer(control.decode_challenge(body))
                await stream.send_vectored([proof])
            elif frame.kind == Kind.CLOSE:
                return _refused(control.decode_close(body).reason)
            elif frame.kind == Kind.WELCOME:
                introduction.check_proven()
                node = control.decode_welcome(body).node
                await tell(stream, close_frame("it was only a probe"))
                return self._certain(node, uris)
            else:
                raise ProtocolError("order", f"a frame of kind {frame.kind} instead of Welcome")

    def _certain(self, node: NodeId, uris: frozenset[str] | None) -> Probe:
        uri = node_uri(self._cluster, node)
        if uris is not None and uri not in uris:
            detail = f"the certificate of {node} lacks {uri}"
            return Probe(Reach.CONNECTED, "certificate", detail, node)
        return Probe(Reach.GREETED, node=node)


def _refused(said: str) -> Probe:
    """The receiver's last words are the reason and the detail of an error there."""
    reason, colon, detail = said.partition(": ")
    if reason in ("incarnation", "round"):  # this side is connected already, and was let in
        return Probe(Reach.GREETED)
    if not colon:
        return Probe(Reach.CONNECTED, "refused", said, told=True)
    return Probe(Reach.CONNECTED, reason, detail, told=True)


async def _receive(stream: ByteStream, decoder: FrameDecoder) -> Frame:
    """The next frame; nothing follows before it is answered."""
    while True:
        count = await stream.receive_into(decoder.buffer())
        if count == 0:
            raise ProtocolError("hangup", "it hung up without a word")
        frames = decoder.received(count)
        if frames:
            return frames[0]


def _no_data(channel: int, length: int) -> None:
    raise ProtocolError("order", f"a receiver does not send a body of {length} bytes")
