"""Which peers a receiver serves: who may come in, and which connection is the current one.

Pure; the driver is :mod:`laminar.shuffle.receiver`.
"""

from __future__ import annotations

from collections.abc import Callable

from laminar.config import ShuffleConfig
from laminar.errors import ProtocolError
from laminar.model import NodeId
from laminar.shuffle.inbound import InboundSession, Mailbox
from laminar.shuffle.messages import Hello


class Peers:
    """The sessions of a receiver, one per peer."""

    def __init__(self, config: ShuffleConfig, mailbox_of: Callable[[str], Mailbox]) -> None:
        self.sessions: dict[NodeId, InboundSession] = {}
        self._config = config
        self._mailbox_of = mailbox_of

    def greet(self, hello: Hello) -> tuple[InboundSession, InboundSession | None]:
        """The session that ``hello`` belongs to, and the one it puts an end to, if any.

        The peer has proven who it is, see :mod:`laminar.shuffle.greeting`. A newer
        incarnation ends the session of the older one. Raises
        :class:`~laminar.errors.ProtocolError` when the peer may not come in.
        """
        current = self.sessions.get(hello.node)
        if current is not None and hello.incarnation <= current.incarnation:
            if hello.incarnation < current.incarnation:
                raise ProtocolError(
                    "incarnation", f"a newer life of {hello.node} has already been here"
                )
            return current, None
        if current is None and len(self.sessions) >= self._config.peers_max:
            raise ProtocolError("peers", f"this node serves {self._config.peers_max} peers already")
        session = InboundSession(hello, self._config, self._mailbox_of)
        self.sessions[hello.node] = session
        return session, current

    def forget(self, session: InboundSession) -> bool:
        """Drop ``session``; ``False`` when another one has taken its place already."""
        if self.sessions.get(session.peer) is not session:
            return False
        del self.sessions[session.peer]
        return True
