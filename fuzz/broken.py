"""What a target raises when the code under test broke its word."""

from __future__ import annotations


class Broken(Exception):
    """An invariant does not hold; the message says which."""


def expect(holds: object, invariant: str) -> None:
    """Raise :class:`Broken` unless ``holds``. No assertion: those can be switched off."""
    if not holds:
        raise Broken(invariant)
