"""What an object remembers, its counters aside, as bytes to compare."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from typing import Any


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        """Leave out what may always change."""
        if type(thing) is Counter:
            return Counter, ()
        return NotImplemented


def state_of(thing: object) -> bytes:
    """The state of ``thing`` and of all that it holds, but for every ``Counter`` in there.

    The same bytes mean the same state; nothing may be replaced by its equal in between.
    """
    written = io.BytesIO()
    _Pickler(written).dump(thing)
    return written.getvalue()
