"""Every limit of the fabric, with its default and its unit, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Literal

from laminar.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB
CHANNELS_MAX = 1024
ABORTED_CHECKPOINTS_MAX = 1024
"""Most aborted checkpoints that an aligner remembers one by one before it sees a newer one."""

KEYS_MAX = 8
KEY_BYTES_MIN = 16
KEY_BYTES_MAX = 64
KEY_BYTES_TYPICAL = 32
"""As many as new keys have."""

KEYRING_FILE_BYTES_MAX = 16 * KIB

ADMIN_ADDR = "127.0.0.1:7947"
"""Where a node's admin server listens unless something else is said."""

Compression = Literal["lz4", "zstd"]
SchemaChange = Literal["announce", "refuse"]
Validation = Literal["full", "layout"]

_LIMITS = ("_bytes", "_max", "_s", "_threshold")
"""How the names of numbers end."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Where TLS finds who this node is and whom it trusts: the paths of three files in PEM.

    Connections are TLS 1.3, and both sides show a certificate. That of a node names it by a
    URI, ``laminar://<cluster>/<node>`` (see :func:`laminar.node_uri`), among its subject
    alternative names. Files that change are read again for the next connection.
    """

    certificate: str
    """This node's certificate, followed by those between it and the authority's, if any."""

    key: str
    """The certificate's private key, not encrypted."""

    ca: str
    """The certificates of the authorities whose nodes are trusted."""


@dataclass(frozen=True, slots=True)
class ShuffleConfig:
    """Settings of a sender or receiver. Both sides of a connection name the same ``cluster``.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range or two
    contradict each other.
    """

    cluster: str = "laminar"
    """Name of the cluster; a peer of another cluster is refused."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)
    """Keys that the nodes share, each of 16 to 64 random bytes (``secrets.token_bytes(32)``).

    With any, both sides of every connection prove that they have one in common before
    anything else. The first one is tried first and all are valid. Nothing is encrypted: that
    is what ``tls`` is for. Keys that are to be replaced while the program runs are given to
    senders and receivers as a ``keyring`` instead.
    """

    tls: TlsConfig | None = None
    """Encrypt every connection, and have both sides show a certificate that names them."""

    allow_unauthenticated: bool = False
    """Listen beyond this machine without ``keys`` or ``tls``, for whoever can connect."""

    window_bytes: int = 8 * MIB
    """Most bytes of data per channel that are sent and not yet consumed.

    What a receiver holds for one channel of one peer never exceeds its own value, and what a
    sender holds never exceeds the smaller of the two. A single frame larger than the window
    travels alone.
    """

    control_frames_max: int = 16384
    """Most barriers, watermarks and ends per channel that are sent and not yet consumed."""

    target_frame_bytes: int = 1 * MIB
    """Batches larger than this are split by rows, smaller ones coalesced up to it."""

    max_frame_bytes: int = 64 * MIB
    """No data frame larger than this is sent, or allocated for when announced by a peer."""

    coalesce_bytes: int = 64 * KIB
    """Batches up to this size are joined while they wait for the connection to be free."""

    compression: Compression | None = None
    """Body compression of the Arrow batches that this side sends."""

    schema_change: SchemaChange = "announce"
    """What becomes of a schema that is not that of the channel's batches before.

    ``"announce"``: consumers get ``SchemaChanged`` before the first batch of the new one.
    ``"refuse"``: whoever sends it gets :class:`~laminar.errors.SchemaError`, and a peer that
    sends it all the same is cut off.
    """

    channels_max: int = 1024
    """Most channels that one peer may open; no more than 1024, so that a greeting names all."""

    validate: Validation | None = None
    """Check every value of every batch received (``full``), or only its ``layout``.

    pyarrow can be made to crash by a batch with forged offsets. Checking the values reads all
    data once more, so by default it is done when peers are authenticated by neither ``keys``
    nor ``tls``.
    """

    peers_max: int = 1024
    """Most peers that a receiver serves at once."""

    connections_max: int = 2048
    """Most connections that a receiver has accepted and not closed yet."""

    handshakes_max: int = 256
    """Most accepted connections that may be busy introducing themselves."""

    handshakes_per_s: float = 500.0
    """Most connections accepted in a second, on average; those of one second may come at once."""

    dial_timeout_s: float = 5.0
    """Longest time for one attempt to connect and shake hands."""

    handshake_timeout_s: float = 5.0
    """Longest time that an accepted connection may take to introduce itself."""

    reconnect_timeout_s: float = 30.0
    """Longest time without a connection before the peer counts as lost."""

    backoff_initial_s: float = 0.05
    """First pause between two attempts to connect; doubles, with jitter."""

    backoff_max_s: float = 2.0
    """Longest pause between two attempts to connect."""

    keepalive_interval_s: float = 3.0
    """How often each side looks whether anything arrived, and asks for a sign of life if not."""

    keepalive_timeout_s: float = 12.0
    """A connection silent for longer than this counts as broken, within two intervals more."""

    close_timeout_s: float = 10.0
    """Longest time that a graceful close waits for what is still on its way."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.cluster) <= 128:
            raise ConfigError(f"cluster has 1 to 128 characters, got {len(self.cluster)}")
        _check_positive(self)
        _check_order(self, "coalesce_bytes", "target_frame_bytes", "max_frame_bytes")
        _check_order(self, "backoff_initial_s", "backoff_max_s")
        _check_order(self, "keepalive_interval_s", "keepalive_timeout_s")
        if self.max_frame_bytes >= 2**31:
            raise ConfigError(f"max_frame_bytes must be below 2 GiB, got {self.max_frame_bytes}")
        if self.channels_max > CHANNELS_MAX:
            raise ConfigError(
                f"channels_max must be at most {CHANNELS_MAX}, got {self.channels_max}"
            )
        if self.compression not in (None, "lz4", "zstd"):
            raise ConfigError(f"compression is None, 'lz4' or 'zstd', got {self.compression!r}")
        if self.validate not in (None, "full", "layout"):
            raise ConfigError(f"validate is None, 'full' or 'layout', got {self.validate!r}")
        if self.schema_change not in ("announce", "refuse"):
            raise ConfigError(
                f"schema_change is 'announce' or 'refuse', got {self.schema_change!r}"
            )
        self._check_keys()

    @property
    def authenticated(self) -> bool:
        """Whether peers have to show who they are, even without a keyring."""
        return bool(self.keys) or self.tls is not None

    @property
    def validates_values(self) -> bool:
        """Whether every value of every batch received is checked."""
        if self.validate is None:
            return not self.authenticated
        return self.validate == "full"

    @property
    def piece_bytes(self) -> int:
        """Size above which a batch is split: schema and dictionaries need room in a frame too."""
        return min(self.target_frame_bytes, max(1, self.max_frame_bytes // 2))

    def _check_keys(self) -> None:
        """Without ever showing one."""
        keys: object = self.keys
        if not isinstance(keys, tuple) or not all(type(key) is bytes for key in keys):
            raise ConfigError("keys is a tuple of bytes, also when it is only one: (key,)")
        if len(self.keys) > KEYS_MAX:
            raise ConfigError(f"keys are at most {KEYS_MAX}, got {len(self.keys)}")
        if len(set(self.keys)) < len(self.keys):
            raise ConfigError("keys holds the same key twice")
        for number, key in enumerate(self.keys):
            if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
                raise ConfigError(
                    f"keys[{number}] has {len(key)} bytes, not {KEY_BYTES_MIN} to "
                    f"{KEY_BYTES_MAX}; make one with secrets.token_bytes(32)"
                )


@dataclass(frozen=True, slots=True)
class DatagramConfig:
    """Limits of what is said to and heard from other nodes in datagrams.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range.
    """

    datagram_bytes_max: int = 1200
    """Largest datagram, all of its parts counted; fits what any network carries in one piece."""

    reordered_max: int = 1024
    """How many datagrams of a sender may overtake one of its own before that is too late."""

    senders_max: int = 16384
    """Most senders whose datagrams are told from replayed ones; about 0.6 KB each."""

    sender_idle_s: float = 600.0
    """A sender silent for longer than this makes room for a new one when there is none."""

    amplification_max: int = 3
    """Most bytes sent to an unproven address for each byte that came from it."""

    addresses_max: int = 16384
    """Most addresses that are remembered as proven, and as many that are not yet."""

    proof_lifetime_s: float = 600.0
    """How long an address that answered counts as proven."""

    cookie_lifetime_s: float = 60.0
    """How long a cookie can be echoed at least; at most twice as long."""

    def __post_init__(self) -> None:
        _check_positive(self)
        if not 512 <= self.datagram_bytes_max <= 65507:
            raise ConfigError(
                "datagram_bytes_max must be between 512 and 65507, the most that UDP carries, "
                f"got {self.datagram_bytes_max}"
            )
        if self.reordered_max > 65536:
            raise ConfigError(f"reordered_max must be at most 65536, got {self.reordered_max}")


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """Where the cluster's etcd is, and how long to wait for it.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range or two
    contradict each other.
    """

    endpoints: tuple[str, ...] = ("http://127.0.0.1:2379",)
    """Client URLs of the members of one etcd cluster; tried in turn."""

    prefix: str = "/laminar"
    """What all keys of the cluster start with, before ``/<node>/<key>``."""

    lease_s: int = 10
    """How long the keys of a node outlive it when it dies without a word."""

    request_timeout_s: float = 5.0
    """Longest time for one call, all attempts counted."""

    watch_idle_s: float = 60.0
    """A watch that hears nothing for this long asks anew, in case its connection is dead."""

    backoff_initial_s: float = 0.05
    """First pause between two attempts; doubles, with jitter."""

    backoff_max_s: float = 2.0
    """Longest pause between two attempts."""

    page_keys_max: int = 128
    """Most keys read by one request."""

    response_bytes_max: int = 32 * MIB
    """Largest answer, or message of a watch, that is read."""

    def __post_init__(self) -> None:
        endpoints: object = self.endpoints
        if not isinstance(endpoints, tuple) or not endpoints:
            raise ConfigError("endpoints is a tuple of URLs, at least one: ('http://host:2379',)")
        for endpoint in self.endpoints:
            if not endpoint.startswith(("http://", "https://")):
                raise ConfigError(f"an etcd endpoint starts with http:// or https://: {endpoint!r}")
        if not 1 <= len(self.prefix) <= 128 or self.prefix.endswith("/"):
            raise ConfigError(
                f"prefix has 1 to 128 characters and does not end with '/', got {self.prefix!r}"
            )
        _check_positive(self)
        _check_order(self, "backoff_initial_s", "backoff_max_s")


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """Settings of the gossip. All nodes of a cluster should have the same.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range.
    """

    interval_s: float = 1.0
    """Pause between two rounds. Everything about who is alive is in proportion to it."""

    fanout_max: int = 3
    """How many nodes are told news at once, and talked to in a round where views differ;
    it is one where they do not."""

    priority_prefixes: tuple[str, ...] = ("gossip:", "shuffle:addr")
    """Keys that begin with one of these travel before all others of any node."""

    phi_threshold: float = 8.0
    """A silence that happens once in 10 to the power of this makes a node suspect."""

    silence_intervals_max: int = 10
    """A silence this many times as long as usual is suspicious, however irregular a node was."""

    suspicion_intervals_max: float = 3.5
    """How many intervals a node that does not answer has to show itself before it is taken for
    dead; more in clusters of more than a hundred. A node that pauses for less is not."""

    direct_evidence_s: float = 8.0
    """How long what this node saw for itself counts for more than what it was told.

    An idle connection shows only every two ``keepalive_interval_s`` that its peer lives.
    """

    forget_s: float = 600.0
    """A node that has been dead or gone this long is forgotten."""

    tombstone_s: float = 300.0
    """How long a deletion is kept. Who was away for longer takes a whole copy again."""

    tombstones_max: int = 1024
    """Most deletions kept of one lane of a node; the oldest go early."""

    nodes_max: int = 8192
    """Most nodes known at once, the dead ones included; further ones are ignored."""

    graves_max: int = 16384
    """Most forgotten nodes remembered, so that they do not come back by rumour."""

    keys_max: int = 4096
    """Most keys of one node, deleted ones included."""

    slot_bytes_max: int = 1 * MIB
    """Most bytes of keys and values of one node."""

    delta_datagrams_max: int = 8
    """Most datagrams in answer to one, once the other side's address has proven itself."""

    incarnation_ahead_s: float = 86_400.0
    """How far an incarnation may be ahead of the clock, or of the one before it."""

    resolve_interval_s: float = 5.0
    """How often a node that knows nobody looks up the addresses of its seeds."""

    key_step_timeout_s: float = 30.0
    """Longest time that each step of replacing a key waits for all members to have taken it."""

    leave_timeout_s: float = 2.0
    """Longest time that leaving waits until somebody has heard of it."""

    def __post_init__(self) -> None:
        _check_positive(self)
        if self.phi_threshold > 100:
            raise ConfigError(f"phi_threshold must be at most 100, got {self.phi_threshold!r}")


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Limits of the HTTP server for operators.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range.
    """

    allow_remote: bool = False
    """Listen beyond this machine. Whoever can connect then reads all that the node knows: nothing
    asks who they are, and nothing is encrypted. To change anything takes this machine even so."""

    connections_max: int = 128
    """Most connections at once; more are turned away."""

    request_bytes_max: int = 64 * KIB
    """Largest body of a request."""

    watchers_max: int = 32
    """Most requests with ``?watch`` at once."""

    watch_stall_s: float = 10.0
    """A watcher that takes nothing for this long is hung up on."""

    watch_heartbeat_s: float = 15.0
    """How often a watcher to whom there is nothing to tell gets an empty line."""

    idle_timeout_s: float = 60.0
    """How long a connection is kept for another request."""

    close_timeout_s: float = 1.0
    """Longest time that closing waits for answers under way."""

    def __post_init__(self) -> None:
        _check_positive(self)


def _check_positive(
    config: ShuffleConfig | DatagramConfig | EtcdConfig | GossipConfig | AdminConfig,
) -> None:
    """Raise :class:`~laminar.errors.ConfigError` unless all limits are greater than 0."""
    for limit in fields(config):
        value = getattr(config, limit.name)
        if limit.name.endswith(_LIMITS) and not value > 0:  # nor is NaN
            raise ConfigError(f"{limit.name} must be greater than 0, got {value!r}")


def _check_order(config: ShuffleConfig | EtcdConfig, *names: str) -> None:
    """Raise :class:`~laminar.errors.ConfigError` unless the limits grow in this order."""
    for smaller, larger in pairwise(names):
        if getattr(config, smaller) > getattr(config, larger):
            raise ConfigError(
                f"{smaller} ({getattr(config, smaller)}) must not exceed "
                f"{larger} ({getattr(config, larger)})"
            )
