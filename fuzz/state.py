"""What an object remembers, its counters aside, as bytes to compare."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from typing import Any

from laminar.cluster.seal import Refusals


class _Pickler(pickle.Pickler):
    def __init__(self, written: io.BytesIO, without: tuple[type, ...]) -> None:
        super().__init__(written)
        self._without = without

    def reducer_override(self, thing: Any) -> Any:
        """Leave out what may change."""
        return (type, ()) if type(thing) in self._without else NotImplemented


def state_of(thing: object, *without: type) -> bytes:
    """The state of ``thing`` and of all that it holds, but for counters and objects ``without``.

    The same bytes mean the same state; nothing may be replaced by its equal in between.
    """
    written = io.BytesIO()
    _Pickler(written, (Counter, Refusals, *without)).dump(thing)
    return written.getvalue()
