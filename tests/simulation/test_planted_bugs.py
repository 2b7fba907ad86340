"""The simulator finds what it is there for: bugs planted in the production code."""

import inspect
import sys
import textwrap

import pytest

from laminar.shuffle.aligner import BarrierAligner
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.inbox import Inbox
from laminar.shuffle.outbound_channel import OutboundChannel
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.window import ReceiveWindow, SendWindow
from tests.simulation.ledger import Violation
from tests.simulation.world import run_seed

SEEDS = range(2000)
"""Those of the ordinary run, in which each of these has to be found."""

BUGS = {
    "replay skips a frame": (
        [
            (
                SendWindow.rewind,
                "if frame.sequence > received)",
                "if frame.sequence > received + 1)",
            )
        ],
        {"honest peers"},
    ),
    "replay begins too early and is not recognised": (
        [
            (SendWindow.rewind, "frame.sequence > received)", "frame.sequence > consumed)"),
            (ReceiveWindow.receive, "return False", "return True"),
        ],
        {"once", "barrier", "order", "memory", "credit"},
    ),
    "an old connection is heard after it was superseded": (
        [(ShuffleReceiver._welcome, "superseded.supersede()", "pass")],
        {"honest peers", "loss", "once"},
    ),
    "credit is given before anything is consumed": (
        [(ReceiveWindow.report, "return self.consumed", "return self.received")],
        {"credit", "honest peers"},
    ),
    "what is in flight is not limited": (
        [
            (
                SendWindow.take,
                "if self.inflight_bytes and self.inflight_bytes + charge > self.window_bytes:",
                "if False:",
            )
        ],
        {"memory", "honest peers"},
    ),
    "a barrier or watermark overtakes rows that wait for company": (
        [(OutboundChannel.push_message, "if self._pending:", "if False:")],
        {"barrier", "loss"},  # a watermark that overtakes rows looks like a loss of them
    ),
    "credit that was lost with its connection is not given again": (
        [(InboundSession._open, "if channel.window.unreported:", "if False:")],
        {"hang"},
    ),
    "a loss is told twice": (
        [
            (
                ShuffleReceiver._tell,
                "inbox.put_error(channels, session.peer, error)",
                "[inbox.put_error(channels, session.peer, error) for _ in range(2)]",
            )
        ],
        {"told"},
    ),
    "a peer that restarted is not told of": (
        [(ShuffleReceiver._welcome, "if ended is not None and ended.begun:", "if False:")],
        {"told", "generation"},
    ),
    "the aligner lets a barrier out before the last input has delivered it": (
        [(BarrierAligner._complete, "< len(self._live)", "< len(self._live) - 1")],
        {"barrier"},
    ),
    "the aligner does not hold back what follows a barrier": (
        [(BarrierAligner._deliver, "source.blocked = True", "pass")],
        {"barrier"},
    ),
    "a cancelled receive loses a message": (
        [
            (
                Inbox.let_credit_out,
                "await cancel_shielded_checkpoint()",
                "await __import__('anyio').lowlevel.checkpoint()",
            )
        ],
        {"hang", "loss", "barrier"},
    ),
}


def plant(monkeypatch, function, healthy: str, sick: str) -> None:
    """Replace a piece of the text of a production method."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(healthy) == 1, f"{function.__qualname__} has changed; plant it anew"
    owner_name, name = function.__qualname__.split(".")
    module = sys.modules[function.__module__]
    planted: dict[str, object] = {}
    code = "from __future__ import annotations\n" + source.replace(healthy, sick)
    exec(compile(code, f"<{function.__qualname__}, with a bug>", "exec"), vars(module), planted)
    monkeypatch.setattr(vars(module)[owner_name], name, planted[name])


def broken_invariant(seed: int) -> str | None:
    """By which promise ``seed`` shows that something is wrong."""
    try:
        run_seed(seed)
    except Violation as violation:
        return violation.invariant
    return None


@pytest.mark.slow
@pytest.mark.parametrize(("places", "invariants"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_found(monkeypatch, places, invariants):
    for place in places:
        plant(monkeypatch, *place)
    for seed in SEEDS:
        found = broken_invariant(seed)
        if found is not None:
            assert found in invariants, f"found by seed {seed}"
            return
    pytest.fail("2,000 seeds did not find it")
