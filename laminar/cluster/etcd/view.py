"""What one watcher of etcd knows, and from where on it must be told: the pure core of following.

The invariant: what was told is the state of the store at some revision between :attr:`revision`
and the newest, for each key; and every change after :attr:`revision` is yet to be told by the
watch, or is in what was told already. So a watch that starts at :attr:`revision` + 1 leaves no
gap, and repeats nothing that matters.

The node's own changes are told when etcd has confirmed them, ahead of the watch, so that a node
sees what it wrote at once. The watch's word on such a key counts again when it has come as far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from laminar.cluster.etcd.layout import Cell
from laminar.cluster.etcd.messages import Change, News
from laminar.model import NodeId

Tell: TypeAlias = Callable[[NodeId, str, str | None], None]
"""Node, key, and what it now holds; ``None`` once it is gone."""


class EtcdView:
    """Follows one store; memory is bounded by the number of its keys."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._known: set[Cell] = set()
        self._ahead: dict[Cell, int] = {}
        """Own changes that the watch has not come to, with their revisions."""
        self._store = 0
        self._told = 0
        self._floor = 0
        self._lost = True

    @property
    def revision(self) -> int | None:
        """All up to here is told; ``None``: everything has to be read anew."""
        return None if self._lost else self._told

    def begin(self) -> None:
        """Note that everything is about to be read."""
        self._floor = max(self._told, *self._ahead.values(), 0)

    def read(self, store: int, revision: int, changes: Sequence[Change]) -> None:
        """Note that these are all keys of ``store`` at ``revision``, read since :meth:`begin`."""
        if store != self._store or revision < self._floor:
            # A store that went back holds nothing of what it confirmed before.
            self._ahead.clear()
        self._store = store
        there = {change.cell for change in changes}
        gone = [Change(cell, None, revision) for cell in self._known - there]
        for change in (*gone, *changes):
            self._learn(change, revision)
        self._lost = False
        self._come_to(revision)

    def own(self, store: int, change: Change) -> None:
        """Note a change of this node's that etcd confirmed."""
        if store != self._store:
            if not self._lost:
                return  # The watch will find out, and everything is read anew.
            self._ahead.clear()
            self._store, self._told = store, 0
        if change.revision > self._told:
            self._learn(change, change.revision)
            self._ahead[change.cell] = change.revision

    def watched(self, news: News) -> None:
        """Note what the watch told; :attr:`revision` is ``None`` when it cannot go on."""
        if news.ended or news.store != self._store:
            self._lost = True
        elif news.created:
            # A store that lost its last revisions would wait for them, and stay silent till then.
            self._lost = news.revision < self._told
        else:
            for change in news.changes:
                self._learn(change, change.revision)
            if not news.partial:
                self._come_to(max(self._told, news.revision))

    def lose(self) -> None:
        """Have everything read anew: what was told cannot be trusted."""
        self._lost = True

    def _learn(self, change: Change, revision: int) -> None:
        if revision < self._ahead.get(change.cell, 0):
            return
        if change.value is None:
            self._known.discard(change.cell)
        else:
            self._known.add(change.cell)
        self._tell(*change.cell, change.value)

    def _come_to(self, revision: int) -> None:
        self._told = revision
        for cell in [cell for cell, ahead in self._ahead.items() if ahead <= revision]:
            del self._ahead[cell]
