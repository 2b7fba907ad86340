"""Every error Laminar raises, named by who is to blame.

::

    LaminarError
    ├── LocalError                 the caller: fix the call or the configuration
    │   ├── ConfigError            a setting is out of range or contradicts another
    │   ├── ClosedError            the object was closed (or never entered)
    │   ├── UnknownPeerError       no address: not registered, not in the KV
    │   ├── NoCreditError          ``try_send`` found no room; nothing was queued
    │   ├── ChannelEndedError      data after ``End`` on the same channel
    │   ├── BatchTooLargeError     one row does not fit the largest frame
    │   ├── SchemaError            a schema cannot travel, or changed where it must not
    │   ├── UnsupportedKeyError    a key column is missing or cannot be hashed
    │   └── NodeIdTakenError       another live node has this one's id and came later
    ├── RemoteError                the peer, or the network between us
    │   ├── PeerUnreachableError   no connection could be made in time
    │   ├── PeerLostError          a connection died and did not come back in time
    │   ├── PeerRestartedError     the peer came back without its memory
    │   ├── HandshakeRefusedError  the peer said no, and why
    │   ├── ProtocolError          the peer broke the protocol; that connection is closed
    │   ├── KvUnavailableError     the store behind a ``ClusterKv`` did not answer in time
    │   ├── KvRefusedError         the store behind a ``ClusterKv`` said no, and why
    │   ├── KeyRotationError       members did not change their keys in time; it names each
    │   ├── AdminRefusedError      a node's admin server said no, and why
    │   └── FanOutError            some peers of a fan-out failed; it names each
    ├── StreamError                the seam in ``laminar.net``; drivers turn it into the above
    │   ├── StreamBrokenError      reset, unreachable, timed out
    │   ├── StreamUntrustedError   the other side could not show who it is
    │   └── StreamClosedError      closed on this side
    └── JobError                   a ``laminar shuffle`` run
        ├── InputError             an input file is missing, corrupt or does not fit
        ├── OutputError            the output cannot be written or is in the way
        └── WorkerError            a worker process died or reported a failure

Each message says what happened, to what, and what to do about it. Only
:mod:`laminar.net` ever sees an ``OSError`` of a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Peer = TypeVar("Peer", bound=str)

NAMED_MAX = 10
"""How many nodes a message names."""


class LaminarError(Exception):
    """Root of all errors raised on purpose by this package."""


class LocalError(LaminarError):
    """The caller can fix this."""


class ConfigError(LocalError, ValueError):
    """A setting is out of range or contradicts another one."""


class ClosedError(LocalError):
    """The object was closed, or its ``async with`` block was never entered."""


class UnknownPeerError(LocalError, LookupError):
    """The peer has no address: nobody registered it and the KV does not know it."""


class NoCreditError(LocalError):
    """There is no room in the window now. Nothing was queued; use ``send_to`` to wait."""


class ChannelEndedError(LocalError):
    """The channel was ended before this message."""


class BatchTooLargeError(LocalError, ValueError):
    """A single row is larger than the largest frame the fabric carries."""


class SchemaError(LocalError, ValueError):
    """Arrow IPC cannot carry the schema as it is, or it is not the one sent before."""


class UnsupportedKeyError(LocalError, ValueError):
    """A key column does not exist, or its type has no place in the hash contract."""


class NodeIdTakenError(LocalError):
    """Another live node has the same id and started later; this one has stopped."""


class RemoteError(LaminarError):
    """The peer, or the network on the way to it, is to blame."""

    def __init__(self, *args: object, peer: str = "") -> None:
        super().__init__(*args)
        self.peer = peer
        """The id of the peer; empty where the error is about none, or several."""


class PeerUnreachableError(RemoteError):
    """No connection to the peer could be made within the configured time."""


class PeerLostError(RemoteError):
    """The connection died and was not re-established in time; unacknowledged frames are lost."""


class PeerRestartedError(RemoteError):
    """The peer came back with a new incarnation: what it held in memory is gone."""


class HandshakeRefusedError(RemoteError):
    """The peer refused the handshake and said why."""


class ProtocolError(RemoteError):
    """The peer sent something the protocol does not allow; its connection is closed.

    ``reason`` is a short stable word, used as the label of the drop counter.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ProtocolError], tuple[str, str]]:
        return ProtocolError, (self.reason, self.detail)


class KvUnavailableError(RemoteError):
    """The store behind a ``ClusterKv`` did not answer in time.

    What was asked for was done or was not; asking again does no harm.
    """


class KvRefusedError(RemoteError):
    """The store behind a ``ClusterKv`` refused what was asked for; nothing was done.

    ``code`` is the gRPC status of the refusal.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{detail} (code {code})")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[KvRefusedError], tuple[int, str]]:
        return KvRefusedError, (self.code, self.detail)


class AdminRefusedError(RemoteError):
    """A node's admin server refused what was asked for.

    ``status`` is that of HTTP, and ``answer`` all that it said.
    """

    def __init__(self, status: int, detail: str, answer: Mapping[str, object]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.answer = dict(answer)

    def __reduce__(self) -> tuple[type[AdminRefusedError], tuple[int, str, dict[str, object]]]:
        return AdminRefusedError, (self.status, self.detail, self.answer)


class FanOutError(RemoteError):
    """A fan-out reached some peers and failed for others; every peer was tried."""

    def __init__(self, what: str, failures: Mapping[Peer, LaminarError]) -> None:
        named = "; ".join(f"{peer}: {error}" for peer, error in failures.items())
        super().__init__(f"{what} failed for {len(failures)} peer(s): {named}")
        self.failures: dict[str, LaminarError] = dict(failures)  # type: ignore[arg-type]
        self.what = what

    def __reduce__(self) -> tuple[type[FanOutError], tuple[str, dict[str, LaminarError]]]:
        return FanOutError, (self.what, self.failures)


class KeyRotationError(RemoteError):
    """Members did not follow a change of keys. Whatever they did, all have a key in common."""

    def __init__(self, what: str, lacking: Mapping[Peer, str]) -> None:
        named = [f"{node}: {why}" for node, why in list(lacking.items())[:NAMED_MAX]]
        more = len(lacking) - len(named)
        named += [f"and {more} more"] if more else []
        super().__init__(f"{what}: {'; '.join(named)}" if named else what)
        self.lacking: dict[str, str] = dict(lacking)  # type: ignore[arg-type]
        """Who did not follow, and why."""
        self.what = what

    def __reduce__(self) -> tuple[type[KeyRotationError], tuple[str, dict[str, str]]]:
        return KeyRotationError, (self.what, self.lacking)


class StreamError(LaminarError):
    """A byte stream failed. Drivers translate this; users normally never see it."""


class StreamBrokenError(StreamError):
    """The other side or the network broke the stream."""


class StreamUntrustedError(StreamError):
    """The other side could not show who it is, or did not trust this side; it is closed.

    ``reason`` is a short stable word, used as the label of the drop counter.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[StreamUntrustedError], tuple[str, str]]:
        return StreamUntrustedError, (self.reason, self.detail)


class StreamClosedError(StreamError):
    """The stream was closed on this side."""


class JobError(LaminarError):
    """A ``laminar shuffle`` run failed; no output was published."""


class InputError(JobError):
    """An input is missing, unreadable, corrupt, or does not fit the others."""


class OutputError(JobError):
    """The output cannot be written, or something is in its way."""


class WorkerError(JobError):
    """A worker process died or reported a failure."""
