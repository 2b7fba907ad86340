"""The window: bounded on both sides, in order and once, whatever the connections do."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from laminar.errors import PeerLostError, ProtocolError
from laminar.shuffle.window import ReceiveWindow, SendWindow

WINDOW = 100
CONTROL = 4


class JoinedWindows(RuleBasedStateMachine):
    """Both halves, joined by connections that keep order and lose what is under way."""

    @initialize(window=st.sampled_from([WINDOW, 16, 1]), control=st.sampled_from([CONTROL, 1]))
    def begin(self, window, control):
        self.limit, self.control_limit = window, control
        self.send = SendWindow(window, control)
        self.receive = ReceiveWindow(window, control)
        self.model = []  # (charge) of every frame pushed, by sequence - 1
        self.to_receiver = deque()
        self.to_sender = deque()
        self.inbox = deque()
        self.delivered = 0
        self.told = 0

    def room(self, charge):
        return self.send.has_room(charge) if charge else self.send.has_control_room()

    @rule(charge=st.one_of(st.just(0), st.integers(1, 30), st.integers(1, 3 * WINDOW)))
    def push(self, charge):
        if self.room(charge):
            self.send.push(charge, charge + 16, (b"",))
            self.model.append(charge)

    @rule()
    def put_on_the_wire(self):
        frame = self.send.take()
        if frame is not None:
            self.to_receiver.append((frame.sequence, frame.charge))

    @rule()
    def put_all_on_the_wire(self):
        while (frame := self.send.take()) is not None:
            self.to_receiver.append((frame.sequence, frame.charge))

    @precondition(lambda self: self.to_receiver)
    @rule()
    def arrive(self):
        sequence, charge = self.to_receiver.popleft()
        new = self.receive.receive(sequence, charge)
        assert new == (sequence == self.delivered + 1)
        if new:
            assert charge == self.model[sequence - 1]
            self.delivered = sequence
            self.inbox.append(charge)

    @precondition(lambda self: self.inbox)
    @rule(reports=st.booleans())
    def consume(self, reports):
        due = self.receive.consume(self.inbox.popleft())
        if due or reports:
            self.report()

    def report(self):
        self.to_sender.append(self.receive.report())
        assert not self.receive.unreported

    @precondition(lambda self: self.to_sender)
    @rule()
    def credit(self):
        self.told = self.to_sender.popleft()
        self.send.consume(self.told)

    @rule()
    def reconnect(self):
        self.to_receiver.clear()
        self.to_sender.clear()
        self.told = self.receive.report()
        self.send.rewind(self.receive.received, self.told)

    @rule()
    def settle(self):
        """All arrives, is consumed and reported: now there must be room, or nothing moves."""
        for _ in range(len(self.model) + 2):
            self.put_all_on_the_wire()
            while self.to_receiver:
                self.arrive()
            while self.inbox:
                self.consume(False)
            if self.receive.unreported:
                self.report()
            while self.to_sender:
                self.credit()
        assert self.delivered == self.send.consumed == len(self.model)
        assert not self.send.retained
        assert not self.send.unsent
        assert self.send.inflight_bytes == 0
        assert self.send.has_room(10 * self.limit)
        assert self.send.has_control_room()

    @invariant()
    def the_sender_keeps_exactly_what_is_not_consumed(self):
        first = self.told + 1
        kept = [(frame.sequence, frame.charge) for frame in self.send.retained]
        assert kept == [(n, self.model[n - 1]) for n in range(first, len(self.model) + 1)]
        assert self.send.retained_bytes == sum(charge for _, charge in kept)
        assert self.send.retained_control == sum(charge == 0 for _, charge in kept)
        assert self.send.next_sequence == len(self.model) + 1

    @invariant()
    def the_sender_is_bounded(self):
        charges = [frame.charge for frame in self.send.retained if frame.charge]
        assert self.send.retained_bytes <= self.limit or len(charges) == 1
        assert self.send.retained_control <= self.control_limit

    @invariant()
    def in_flight_is_what_the_sender_says_and_bounded(self):
        unsent = {frame.sequence for frame in self.send.unsent}
        inflight = [f.charge for f in self.send.retained if f.charge and f.sequence not in unsent]
        assert self.send.inflight_bytes == sum(inflight)
        assert sum(inflight) <= self.limit or len(inflight) == 1

    @invariant()
    def the_receiver_is_bounded(self):
        charges = [charge for charge in self.inbox if charge]
        assert self.receive.held_bytes == sum(charges)
        assert self.receive.held_bytes <= self.limit or len(charges) == 1
        assert self.receive.held_control == len(self.inbox) - len(charges) <= self.control_limit


# Hypothesis starts checking invariants after the initialize rule.
TestJoinedWindows = JoinedWindows.TestCase
TestJoinedWindows.settings = settings(stateful_step_count=60)


def sent(charges, window=WINDOW, control=CONTROL):
    send = SendWindow(window, control)
    for charge in charges:
        send.push(charge, charge + 16, (b"",))
    while send.take() is not None:
        pass
    return send


class TestSendWindow:
    def test_numbers_from_one_without_gaps(self):
        send = SendWindow(WINDOW, CONTROL)
        for charge in (5, 0, 7):
            send.push(charge, charge, (b"",))
        assert [send.take()[:2] for _ in range(3)] == [(1, 5), (2, 0), (3, 7)]
        assert send.take() is None

    def test_exactly_the_window_fits(self):
        send = sent([60])
        assert send.has_room(40)
        assert not send.has_room(41)

    def test_a_frame_larger_than_the_window_travels_alone(self):
        send = SendWindow(WINDOW, CONTROL)
        assert send.has_room(1000)
        send.push(1000, 1016, (b"",))
        assert not send.has_room(1)
        assert send.take().charge == 1000

    def test_a_smaller_window_after_a_reconnect_holds_back_what_was_queued_for_a_larger(self):
        send = sent([30, 30, 30])
        send.window_bytes = 50
        send.rewind(0, 0)
        assert send.take().sequence == 1
        assert send.take() is None
        send.consume(1)
        assert send.take().sequence == 2

    def test_control_is_not_held_up_by_full_data_nor_data_by_control(self):
        send = sent([WINDOW])
        assert not send.has_room(1)
        assert send.has_control_room()
        send.push(0, 16, (b"",))
        assert send.take().sequence == 2
        full = sent([0] * CONTROL)
        assert not full.has_control_room()
        assert full.has_room(WINDOW)

    @pytest.mark.parametrize("sequence", [2, 3, 2**64 - 1])
    def test_credit_before_sending(self, sequence):
        send = SendWindow(WINDOW, CONTROL)
        send.push(1, 17, (b"",))
        send.push(1, 17, (b"",))
        send.take()
        with pytest.raises(ProtocolError) as caught:
            send.consume(sequence)
        assert caught.value.reason == "credit"
        assert len(send.retained) == 2

    def test_old_credit_says_nothing_new(self):
        send = sent([10, 10, 10])
        send.consume(2)
        send.consume(1)
        assert send.consumed == 2
        assert send.retained_bytes == 10

    @pytest.mark.parametrize(("received", "consumed"), [(4, 0), (1, 2), (2**64 - 1, 3)])
    def test_claims_of_what_was_never_sent(self, received, consumed):
        with pytest.raises(ProtocolError) as caught:
            sent([10, 10, 10]).rewind(received, consumed)
        assert caught.value.reason == "resume"

    def test_a_peer_that_forgot(self):
        send = sent([10, 10, 10])
        send.consume(2)
        with pytest.raises(PeerLostError, match="up to 1 only"):
            send.rewind(1, 1)


class TestReceiveWindow:
    @pytest.mark.parametrize("sequence", [0, 2, 3, 2**64 - 1])
    def test_gap(self, sequence):
        receive = ReceiveWindow(WINDOW, CONTROL)
        with pytest.raises(ProtocolError) as caught:
            receive.receive(sequence, 1)
        assert caught.value.reason == "gap"
        assert receive.received == 0

    def test_duplicates_change_nothing(self):
        receive = ReceiveWindow(WINDOW, CONTROL)
        assert receive.receive(1, 60)
        assert receive.receive(2, 0)
        assert not receive.receive(1, 60)
        assert not receive.receive(2, 0)
        assert (receive.received, receive.held_bytes, receive.held_control) == (2, 60, 1)

    def test_overdraft(self):
        receive = ReceiveWindow(WINDOW, CONTROL)
        receive.receive(1, 60)
        receive.check_room(40)
        for refuse in (lambda: receive.check_room(41), lambda: receive.receive(2, 41)):
            with pytest.raises(ProtocolError) as caught:
                refuse()
            assert caught.value.reason == "credit"
        assert (receive.received, receive.held_bytes) == (1, 60)

    def test_a_lone_oversized_body_is_let_in(self):
        receive = ReceiveWindow(WINDOW, CONTROL)
        receive.check_room(10 * WINDOW)
        assert receive.receive(1, 10 * WINDOW)
        with pytest.raises(ProtocolError):
            receive.receive(2, 1)

    def test_too_many_control_frames(self):
        receive = ReceiveWindow(WINDOW, CONTROL)
        for sequence in range(1, CONTROL + 1):
            receive.receive(sequence, 0)
        with pytest.raises(ProtocolError) as caught:
            receive.receive(CONTROL + 1, 0)
        assert caught.value.reason == "credit"
        assert receive.receive(CONTROL + 1, WINDOW)

    def test_reports_are_due_at_a_quarter_of_either_allowance(self):
        receive = ReceiveWindow(100, 1000)
        due = []
        for sequence in range(1, 31):
            receive.receive(sequence, 1)
            due.append(receive.consume(1))
        assert due == [False] * 24 + [True] * 6
        assert receive.report() == 30
        receive.receive(31, 1)
        assert not receive.consume(1)
        receive = ReceiveWindow(1000, 8)
        for sequence in (1, 2):
            receive.receive(sequence, 0)
        assert [receive.consume(0), receive.consume(0)] == [False, True]


def test_control_queued_before_the_peer_named_a_smaller_allowance_waits() -> None:
    window = SendWindow(1000, 10)
    for _ in range(4):
        window.push(0, 16, (b"x" * 16,))
    window.control_frames = 3
    assert [window.take() is not None for _ in range(4)] == [True, True, True, False]
    window.consume(1)
    assert window.take() is not None
    window.rewind(received=2, consumed=2)
    assert [window.take() is not None for _ in range(3)] == [True, True, False]
