"""How much may be sent to an address that has not shown that it wants it.

The source of a datagram is easily forged: whoever gets a large answer to a small question can
have it sent to a victim. The invariant, that of QUIC (RFC 9000, section 8.1): to an address
that is not proven, no more than ``amplification_max`` bytes are sent for each byte that came
from it. An address is proven for a while by echoing a cookie that was sent to it.

Answers carry a cookie, and the next question echoes it. No state is kept for a cookie: it is
a keyed hash of the address and the time.
"""

from __future__ import annotations

import hmac
import sys
from collections import OrderedDict
from typing import Final

from laminar.cluster.tenure import Tenure
from laminar.config import DatagramConfig
from laminar.errors import ConfigError

COOKIE_BYTES: Final = 8
SECRET_BYTES: Final = 32
UNLIMITED: Final = sys.maxsize
"""What is allowed to a proven address."""


class AddressProof:
    """The budget of every address. Memory is bounded by twice ``addresses_max``.

    An unproven address whose budget is forgotten, because too many others came, has none until
    it sends again; so forgetting never allows more.
    """

    def __init__(self, secret: bytes, config: DatagramConfig | None = None) -> None:
        """Make cookies with ``secret``, ``secrets.token_bytes(SECRET_BYTES)`` at every start.

        Raises :class:`~laminar.errors.ConfigError` when it has another length.
        """
        if len(secret) != SECRET_BYTES:
            raise ConfigError(f"the secret has {SECRET_BYTES} bytes, got {len(secret)}")
        self._secret = secret
        self._config = config if config is not None else DatagramConfig()
        self._proven: Tenure[str, float] = Tenure(
            self._config.addresses_max, self._config.proof_lifetime_s
        )
        """Until when."""
        self._budgets: OrderedDict[str, int] = OrderedDict()
        """The one that waited longest for a datagram first."""

    def on_received(self, source: str, size: int) -> None:
        """Note a datagram of ``size`` bytes from ``source``."""
        budget = self._budgets.pop(source, 0)
        if len(self._budgets) >= self._config.addresses_max:
            self._budgets.popitem(last=False)
        self._budgets[source] = budget + size * self._config.amplification_max

    def allowed_bytes(self, source: str, now: float) -> int:
        """Return how much may be sent to ``source`` now: ``UNLIMITED`` once it is proven."""
        if self.is_proven(source, now):
            return UNLIMITED
        return self._budgets.get(source, 0)

    def on_sent(self, source: str, size: int) -> None:
        """Note a datagram of ``size`` bytes, at most what was allowed, to ``source``."""
        if source in self._budgets:
            self._budgets[source] = max(0, self._budgets[source] - size)

    def cookie(self, source: str, now: float) -> bytes:
        """Return what ``source`` is to echo."""
        return self._cookie(source, self._period(now))

    def prove(self, source: str, cookie: bytes, now: float) -> bool:
        """Return whether ``cookie``, received from ``source``, was lately sent to it.

        If so it is proven from now on, for ``proof_lifetime_s``.
        """
        period = self._period(now)
        fresh = [self._cookie(source, period), self._cookie(source, period - 1)]
        if not any(hmac.compare_digest(cookie, wanted) for wanted in fresh):
            return False
        self.on_proven(source, now)
        return True

    def on_proven(self, source: str, now: float) -> None:
        """Trust ``source`` for ``proof_lifetime_s``: it answered what only it could know."""
        self._proven.put(source, now + self._config.proof_lifetime_s, now)
        self._budgets.pop(source, None)

    def is_proven(self, source: str, now: float) -> bool:
        """Return whether ``source`` was proven lately."""
        until = self._proven.get(source)
        return until is not None and now < until

    def _period(self, now: float) -> int:
        return int(now // self._config.cookie_lifetime_s)

    def _cookie(self, source: str, period: int) -> bytes:
        text = f"{period} {source}".encode()
        return hmac.digest(self._secret, text, "sha256")[:COOKIE_BYTES]
