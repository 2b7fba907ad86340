"""Structure out of arbitrary bytes: reading past the end gives zeros."""

from __future__ import annotations


class Bytes:
    """A cursor over the input of a target."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def exhausted(self) -> bool:
        """Whether all was read."""
        return self._position >= len(self._data)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, or as many as are left."""
        piece = self._data[self._position : self._position + count]
        self._position += count
        return piece

    def u8(self) -> int:
        """The next byte."""
        return self._integer(1)

    def u16(self) -> int:
        """The next two bytes, little-endian."""
        return self._integer(2)

    def u64(self) -> int:
        """The next eight bytes, little-endian."""
        return self._integer(8)

    def _integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")
