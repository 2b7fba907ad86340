"""Decides when a silent connection is asked for a sign of life, and when it is given up.

Pure; :mod:`laminar.shuffle.vigil` drives it, on both sides of every connection.

A dead host or a cut cable says nothing, and a connection on which nothing is sent notices
nothing. So each side looks once per interval whether anything arrived; if not it sends a
``Ping``, which the other side answers whatever its consumer does, and after the timeout it
closes the connection as if it had broken.

The main cause of a false alarm is a pause of one's own process (a long call that keeps the
event loop from running): what arrived meanwhile waits unread in the kernel. A look that comes
late therefore counts no silence for the time it was late.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What is to be done about a connection."""

    FINE = "fine"
    PING = "ping"
    DEAD = "dead"


class Keepalive:
    """The silence of one connection, in seconds of any clock that does not go back.

    A connection on which nothing arrives is given up after more than ``timeout_s`` and at most
    ``timeout_s + 2 * interval_s``, not counting the time in which nobody looked.
    """

    def __init__(self, interval_s: float, timeout_s: float, now: float) -> None:
        self.interval_s = interval_s
        self.heard = True
        """Set by whoever receives something; cheaper than to ask for the time."""
        self.dead = False
        """Whether the connection was given up."""
        self._heard_at = now
        self._heard_since_look = False
        self._timeout_s = timeout_s
        self._looked = now
        self._silent_s = 0.0

    def look(self, now: float) -> Verdict:
        """What to do at ``now``; to be called once per interval."""
        elapsed, self._looked = now - self._looked, now
        self.heard_at(now)
        if self._heard_since_look:
            self._heard_since_look = False
            self._silent_s = 0.0
            return Verdict.FINE
        self._silent_s += min(elapsed, self.interval_s)
        if self._silent_s > self._timeout_s:
            self.dead = True
            return Verdict.DEAD
        return Verdict.PING

    def heard_at(self, now: float) -> float:
        """When something was last heard, as far as is known at ``now``.

        What was heard since the last time somebody asked or looked counts as heard just now.
        """
        if self.heard:
            self.heard = False
            self._heard_since_look = True
            self._heard_at = now
        return self._heard_at
