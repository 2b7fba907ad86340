"""One port for TCP and UDP, or none."""

from contextlib import AsyncExitStack

import pytest

from laminar.errors import StreamBrokenError
from laminar.node.ports import PORT_ATTEMPTS, at_port_of, open_at_one_port


class Parts:
    """What listens, once it has been tried that often."""

    def __init__(self, stack, succeeds_at):
        self.left = 0
        self._stack = stack
        self._succeeds_at = succeeds_at

    async def open(self, attempt):
        self._stack.callback(self._leave)
        if attempt < self._succeeds_at:
            raise StreamBrokenError("taken")
        return attempt

    def _leave(self):
        self.left += 1


@pytest.mark.parametrize("attempts", [0, 1, PORT_ATTEMPTS - 1])
async def test_ports_are_tried_until_one_is_free(attempts):
    async with AsyncExitStack() as stack:
        parts = Parts(stack, attempts)
        assert await open_at_one_port("127.0.0.1:0", stack, parts.open) == attempts
        assert parts.left == attempts  # and what listens now stays
    assert parts.left == attempts + 1


@pytest.mark.parametrize(("listen", "attempts"), [("a:0", PORT_ATTEMPTS), ("a:7946", 1)])
async def test_there_is_an_end_to_it(listen, attempts):
    stack = AsyncExitStack()
    parts = Parts(stack, PORT_ATTEMPTS)
    with pytest.raises(StreamBrokenError, match="taken"):
        await open_at_one_port(listen, stack, parts.open)
    assert parts.left == attempts


def test_the_port_of_another():
    assert at_port_of("example:0", "127.0.0.1:7946") == "example:7946"
    assert at_port_of("[::1]:0", "[::1]:7946") == "[::1]:7946"
