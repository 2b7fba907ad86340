"""Where a node's keys are in etcd: ``<prefix>/<node>/<key>``, in UTF-8.

A ``/`` or ``%`` in a node's name is percent-encoded, so that the first ``/`` behind the prefix
ends the name. The key follows as it is.
"""

from __future__ import annotations

from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from laminar.cluster.kv import check_key
from laminar.errors import ConfigError
from laminar.model import NodeId, node_id

Cell: TypeAlias = tuple[NodeId, str]
"""A key of a node."""

_PLAIN: Final = "!\"#$&'()*+,:;<=>?@[\\]^`{|}"


class Layout:
    """The keys of one cluster."""

    def __init__(self, prefix: str) -> None:
        self._root = prefix.encode() + b"/"

    @property
    def everything(self) -> tuple[bytes, bytes]:
        """The first key of the cluster and the first one behind it."""
        return self._root, self._root[:-1] + b"0"

    def key(self, node: NodeId, key: str) -> bytes:
        """Where ``key`` of ``node`` is."""
        return self._root + quote(node, safe=_PLAIN).encode() + b"/" + key.encode()

    def cell(self, path: bytes) -> Cell | None:
        """Return which key of which node is at ``path``, or ``None`` when it is nobody's."""
        if not path.startswith(self._root):
            return None
        name, slash, key = path[len(self._root) :].partition(b"/")
        if not slash:
            return None
        try:
            cell = node_id(unquote(name.decode())), check_key(key.decode())
        except (ConfigError, UnicodeDecodeError):
            return None
        # Only one spelling counts, or two keys of etcd would be one of ours.
        return cell if self.key(*cell) == path else None
