"""How many strangers a receiver lets in, and how fast: decided before a byte of them is read.

Pure; the driver is :mod:`laminar.shuffle.receiver`.
"""

from __future__ import annotations

from laminar.config import ShuffleConfig


class TokenBucket:
    """Lets ``rate_per_s`` through on average, and after a pause those of one second at once."""

    def __init__(self, rate_per_s: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._tokens_max = max(1.0, rate_per_s)
        self._tokens = self._tokens_max
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Whether one more may pass at ``now`` (seconds, never running backwards)."""
        gained = (now - self._filled_at) * self._rate_per_s
        self._tokens = min(self._tokens_max, self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admission:
    """The connections that a receiver has accepted."""

    def __init__(self, config: ShuffleConfig, now: float) -> None:
        self.connections = 0
        self.handshakes = 0
        """Those of the connections that are busy introducing themselves."""
        self._config = config
        self._bucket = TokenBucket(config.handshakes_per_s, now)

    def refusal(self, now: float) -> str | None:
        """Let one more connection in, or the reason why not.

        One that came in is to be reported to :meth:`introduced` and then to :meth:`left`.
        """
        if self.connections >= self._config.connections_max:
            return "connections"
        if self.handshakes >= self._config.handshakes_max:
            return "handshakes"
        if not self._bucket.take(now):
            return "rate"
        self.connections += 1
        self.handshakes += 1
        return None

    def introduced(self) -> None:
        """A connection's handshake is over, whatever came of it."""
        self.handshakes -= 1

    def left(self) -> None:
        """A connection is closed."""
        self.connections -= 1
