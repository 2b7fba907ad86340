"""Alignment: no row across a barrier, every barrier once, nothing lost and nothing stuck."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from laminar.config import ABORTED_CHECKPOINTS_MAX
from laminar.errors import ConfigError
from laminar.model import BarrierFlags, CheckpointBarrier
from laminar.shuffle.aligner import BarrierAligner, Superseded
from laminar.shuffle.messages import Barrier, Data, End, Watermark


@dataclass(frozen=True)
class Lost:
    """What a driver is handed when a peer is gone, with or without a new life."""

    peer: str


def data(number):
    return Data(number)  # the aligner does not look inside


def barrier(number, **how):
    return Barrier(CheckpointBarrier(number, **how))


class Driver:
    """An aligner and what has come out of it, all in the place where it did."""

    def __init__(self, *inputs):
        self.aligner = BarrierAligner(inputs)
        self.out = []
        self.now = 0.0

    def __call__(self, peer, *messages, size=1):
        """Hand in what arrives of ``peer``; what has come out thereupon."""
        before = len(self.out)
        for message in messages:
            self.aligner.put(peer, message, size, last=isinstance(message, Lost | End))
        self.run()
        return self.out[before:]

    def run(self):
        while (turn := self.aligner.take()) is not None:
            peer, message = turn
            if isinstance(message, Lost):
                self.out.append((peer, message))
                self.out += self.aligner.leave(peer, self.now)
            else:
                self.out += self.aligner.process(peer, message, self.now)

    def abort(self, number):
        before = len(self.out)
        self.out += self.aligner.abort(number, self.now)
        self.run()
        return self.out[before:]

    def readmit(self, peer):
        before = len(self.out)
        self.aligner.readmit(peer)
        self.run()
        return self.out[before:]

    def dismiss(self, peer):
        """What has come out thereupon; what was refused is in ``refused``."""
        before = len(self.out)
        events, self.refused = self.aligner.dismiss(peer, self.now)
        self.out += events
        self.run()
        return self.out[before:]

    @property
    def statistics(self):
        return self.aligner.statistics()


def aligned(number):
    return (None, barrier(number))


def rows(peer, *numbers):
    return [(peer, data(number)) for number in numbers]


class TestBarriers:
    def test_the_rows_behind_it_wait_until_every_input_has_delivered_it(self):
        both = Driver("a", "b")
        assert both("a", data(1), barrier(1), data(2)) == rows("a", 1)
        assert both("b", data(3)) == rows("b", 3)
        assert both("b", barrier(1), data(4)) == [aligned(1), *rows("b", 4), *rows("a", 2)]
        assert both("a", data(5)) == rows("a", 5)

    def test_a_single_input_holds_nothing(self):
        one = Driver("a")
        assert one("a", data(1), barrier(1), data(2), barrier(2)) == [
            *rows("a", 1),
            aligned(1),
            *rows("a", 2),
            aligned(2),
        ]

    def test_an_input_may_be_any_number_of_checkpoints_ahead(self):
        both = Driver("a", "b")
        ahead = [message for n in range(100) for message in (barrier(n), data(n))]
        assert both("a", *ahead) == []
        assert both.statistics.held_messages == 199
        for n in range(100):
            assert both("b", data(1000 + n), barrier(n)) == [
                *rows("b", 1000 + n),
                aligned(n),
                *rows("a", n),
            ]
        assert both.statistics.held_messages == 0

    def test_a_duplicate_is_dropped_whenever_it_comes(self):
        """A late duplicate barrier once reopened an aligned checkpoint."""
        both = Driver("a", "b")
        assert both("a", barrier(1), barrier(1), data(1)) == []
        assert both("b", barrier(1)) == [aligned(1), *rows("a", 1)]
        assert both("b", barrier(1), data(2)) == rows("b", 2)
        assert both("a", barrier(1), data(3)) == rows("a", 3)
        assert both.statistics.drops == {"duplicate": 3}
        assert (both.statistics.aligned, both.statistics.aligning) == (1, None)

    def test_a_late_one_is_dropped(self):
        both = Driver("a", "b")
        both("a", barrier(5))
        both("b", barrier(5))
        assert both("a", barrier(3), data(1)) == rows("a", 1)
        assert both.statistics.drops == {"late": 1}

    def test_one_that_an_input_skips_is_superseded_for_all(self):
        both = Driver("a", "b")
        assert both("a", barrier(1), data(1), barrier(2), data(2)) == []
        assert both("b", data(3), barrier(2), data(4)) == [
            *rows("b", 3),
            (None, Superseded(1, by=2)),
            *rows("a", 1),
            aligned(2),
            *rows("a", 2),
            *rows("b", 4),
        ]
        assert both.statistics.superseded == 1

    def test_one_that_is_skipped_before_anybody_delivered_it_is_late(self):
        both = Driver("a", "b")
        assert both("a", barrier(7)) == []
        assert both("b", barrier(5), data(1)) == rows("b", 1)
        assert both("b", barrier(7)) == [aligned(7)]
        assert both.statistics.drops == {"late": 1}
        assert both.statistics.superseded == 0

    def test_id_zero_and_the_largest_one(self):
        both = Driver("a", "b")
        for number in (0, 2**64 - 1):
            both("a", barrier(number))
            assert both("b", barrier(number)) == [aligned(number)]

    def test_the_first_of_a_checkpoint_is_the_one_that_comes_out(self):
        both = Driver("a", "b")
        both("a", barrier(1, epoch=3, flags=BarrierFlags.STOP))
        (event,) = both("b", barrier(1, epoch=4))
        assert event == (None, barrier(1, epoch=3, flags=BarrierFlags.STOP))

    def test_inputs_take_turns_when_they_are_let_go(self):
        three = Driver("a", "b", "c")
        three("a", barrier(1), *[data(n) for n in range(3)])
        three("b", barrier(1), *[data(n) for n in range(3)])
        peers = [peer for peer, _ in three("c", barrier(1))]
        assert peers == [None, "a", "b", "a", "b", "a", "b"]


class TestAbort:
    def test_lets_the_blocked_inputs_go_on(self):
        both = Driver("a", "b")
        both("a", barrier(1), data(1), barrier(2), data(2))
        assert both.abort(1) == rows("a", 1)
        assert both("b", barrier(1), data(3)) == rows("b", 3)
        assert both("b", barrier(2)) == [aligned(2), *rows("a", 2)]
        assert both.statistics.drops == {"late": 1}
        assert both.statistics.aborted == 1

    def test_before_anybody_has_delivered_it(self):
        both = Driver("a", "b")
        assert both.abort(2) == []
        assert both("a", barrier(1)) == []
        assert both("b", barrier(1)) == [aligned(1)]
        assert both("a", barrier(2), data(1)) == rows("a", 1)
        assert both("b", barrier(2), data(2)) == rows("b", 2)
        assert both.statistics.drops == {"aborted": 1, "late": 1}

    def test_an_aborted_one_supersedes_all_the_same(self):
        both = Driver("a", "b")
        both.abort(2)
        both("a", barrier(1), data(1))
        assert both("b", barrier(2), data(2)) == [
            (None, Superseded(1, by=2)),
            *rows("b", 2),
            *rows("a", 1),
        ]

    def test_of_one_that_is_over_does_nothing(self):
        both = Driver("a", "b")
        both("a", barrier(1))
        both("b", barrier(1))
        assert both.abort(1) == both.abort(0) == []
        both("a", barrier(2))
        assert both.abort(1) == []
        assert both("b", barrier(2)) == [aligned(2)]
        assert both.statistics.aborted == 0

    def test_ids_do_not_leak(self):
        both = Driver("a", "b")
        for number in range(0, 100_000, 2):
            both.abort(number)
            both("a", barrier(number + 1))
            both("b", barrier(number + 1))
        assert both.statistics.aligned == 50_000
        assert both.aligner._aborted == set()

    def test_ids_that_never_come_do_not_leak_either(self):
        both = Driver("a", "b")
        both("a", barrier(0))
        gone = []
        newest = 10 * ABORTED_CHECKPOINTS_MAX
        for number in range(1, newest + 1):
            gone += both.abort(number)
            assert len(both.aligner._aborted) <= ABORTED_CHECKPOINTS_MAX
        assert gone == [(None, Superseded(0, by=1))]
        for number in (1, 5, newest):
            assert both("a", barrier(number)) == both("b", barrier(number)) == []
        assert both("a", barrier(newest + 1)) == []
        assert both("b", barrier(newest + 1)) == [aligned(newest + 1)]


class TestDepartures:
    def test_an_end_counts_as_having_delivered_every_barrier(self):
        both = Driver("a", "b")
        both("a", barrier(1), data(1))
        assert both("b", data(2), End()) == [
            *rows("b", 2),
            ("b", End("default")),
            aligned(1),
            *rows("a", 1),
        ]
        assert both("a", barrier(2)) == [aligned(2)]
        assert both.aligner.live == {"a"}

    def test_an_end_behind_a_barrier_waits_for_it(self):
        both = Driver("a", "b")
        assert both("a", barrier(1), data(1), End()) == []
        assert both.aligner.live == {"a", "b"}
        assert both("b", barrier(1)) == [aligned(1), *rows("a", 1), ("a", End("default"))]
        assert both("b", End()) == [("b", End("default"))]
        assert both.aligner.done

    def test_one_that_leaves_is_told_before_the_barrier_that_waited_for_it(self):
        both = Driver("a", "b")
        both("a", barrier(1), data(1))
        assert both("b", data(2), Lost("b")) == [
            *rows("b", 2),
            ("b", Lost("b")),
            aligned(1),
            *rows("a", 1),
        ]
        assert both.aligner.live == {"a"}

    def test_what_came_of_it_comes_out_first_and_nothing_afterwards(self):
        """Not even of its next life, which may go on sending, but waits."""
        both = Driver("a", "b")
        assert both("a", barrier(1), data(1), Lost("a"), data(2), barrier(1), Lost("a")) == []
        assert both("b", barrier(1)) == [aligned(1), *rows("a", 1), ("a", Lost("a"))]
        assert both("a", data(3), barrier(2)) == []
        assert both("b", barrier(2)) == [aligned(2)]
        assert both.statistics.returned == {"a"}
        assert both.statistics.drops == {"departed": 3}

    def test_a_peer_that_restarts_again_and_again_takes_no_memory(self):
        both = Driver("a", "b")
        both("a", barrier(1), data(1), Lost("a"))
        for _ in range(100):
            both("a", data(2), Lost("a"))
        assert both.statistics.held_messages == 2
        assert len(both.aligner._returned["a"].held) == 2

    def test_leaving_at_once_refuses_what_is_held(self):
        """As a driver does whose frames of it cannot be decoded."""
        both = Driver("a", "b")
        both.aligner.put("a", data(1))
        both.aligner.put("a", data(2))
        assert both.aligner.take() == ("a", data(1))
        assert both.aligner.leave("a", 0) == both.aligner.leave("a", 0) == []
        assert both("a") == []
        assert both.statistics.drops == {"departed": 1}
        assert both.statistics.held_bytes == 0

    def test_a_blocked_one_that_leaves_at_once_is_not_counted_as_waiting(self):
        three = Driver("a", "b", "c")
        three("a", barrier(1))
        three.aligner.leave("a", 0)
        assert three("b", barrier(1), data(1)) == []
        assert three("c", barrier(1)) == [aligned(1), *rows("b", 1)]
        one = Driver("a", "b")
        one("a", barrier(1))
        one.aligner.leave("b", 0)
        assert one.aligner.leave("a", 0) == []
        assert one.aligner.done
        assert one.statistics.aligning is None

    def test_the_set_waited_for_is_the_set_of_inputs_and_no_other(self):
        """They were once computed separately, and deadlocked."""
        both = Driver("a", "b")
        assert both("stranger", data(1), barrier(1), End()) == []
        both("a", barrier(1))
        assert both.statistics.missing == {"b"}
        assert both("b", barrier(1)) == [aligned(1)]
        assert both.statistics.drops == {"stranger": 3}
        assert both.aligner.inputs == both.aligner.live == {"a", "b"}

    def test_no_inputs_at_all(self):
        assert Driver().aligner.done
        with pytest.raises(ConfigError):
            Driver("no good")


class TestReadmission:
    """What a new life sends waits, and comes out whole or not at all."""

    def test_all_of_the_new_life_comes_out_whenever_it_came(self):
        both = Driver("a", "b")
        both("a", data(1), Lost("a"), data(2))
        assert both.statistics.returned == {"a"}
        assert both.readmit("a") == rows("a", 2)
        assert both("a", data(3)) == rows("a", 3)
        assert both.aligner.live == {"a", "b"}
        assert both.statistics.returned == frozenset()
        assert both.statistics.drops == {}

    def test_before_it_has_come_at_all(self):
        both = Driver("a", "b")
        both("a", Lost("a"))
        assert both.readmit("a") == []
        assert both("b", barrier(1), data(1)) == []
        assert both("a", data(2), barrier(1)) == [*rows("a", 2), aligned(1), *rows("b", 1)]

    def test_a_new_life_is_known_while_the_end_of_the_old_one_is_held(self):
        both = Driver("a", "b")
        both("a", barrier(1), data(1), Lost("a"), data(2))
        assert both("b", barrier(1)) == [aligned(1), *rows("a", 1), ("a", Lost("a"))]
        assert both.readmit("a") == rows("a", 2)

    def test_an_end_is_the_end_of_a_life_also_while_it_is_held(self):
        both = Driver("a", "b")
        both("a", barrier(1), End(), data(2))
        assert both("b", barrier(1)) == [aligned(1), ("a", End("default"))]
        assert both.readmit("a") == rows("a", 2)

    def test_the_checkpoint_that_is_being_aligned_goes_on_without_it(self):
        """And before anything of it; its own barrier of that checkpoint is late."""
        both = Driver("a", "b", "c")
        both("a", Lost("a"), data(1), barrier(1), data(2))
        both("b", barrier(1))
        assert both.readmit("a") == []
        assert both.statistics.missing == {"c"}
        assert both("a", data(3)) == []
        assert both("c", barrier(1)) == [aligned(1), *rows("a", 1, 2, 3)]
        assert both.statistics.drops == {"late": 1}
        both("b", barrier(2))
        both("c", barrier(2))
        assert both.statistics.missing == {"a"}
        assert both("a", barrier(2)) == [aligned(2)]

    def test_it_goes_on_when_the_checkpoint_at_its_return_is_given_up(self):
        both = Driver("a", "b", "c")
        both("a", Lost("a"), data(1))
        both("b", barrier(1))
        both.readmit("a")
        assert both.abort(1) == rows("a", 1)
        both("c", barrier(2))
        both("a", Lost("a"), data(2))
        assert both.readmit("a") == []
        assert both("b", barrier(3)) == [(None, Superseded(2, by=3)), *rows("a", 2)]

    def test_it_can_be_lost_again_while_it_waits_for_that_checkpoint(self):
        both = Driver("a", "b", "c")
        both("a", Lost("a"))
        both("b", barrier(1))
        both.readmit("a")
        assert both("a", data(1), Lost("a"), data(2)) == []
        assert both("c", barrier(1)) == [aligned(1), *rows("a", 1), ("a", Lost("a"))]
        assert both.readmit("a") == rows("a", 2)

    def test_a_life_that_was_over_before_is_told_of(self):
        """Else whoever readmits it would wait for it for ever."""
        both = Driver("a", "b")
        both("a", Lost("a"), data(1), Lost("a"))
        assert both.readmit("a") == [*rows("a", 1), ("a", Lost("a"))]
        assert both.aligner.live == {"b"}

    def test_of_several_lives_the_newest_comes_out(self):
        both = Driver("a", "b")
        both("a", Lost("a"), data(1), Lost("a"), data(2), data(3))
        assert both.readmit("a") == rows("a", 2, 3)
        assert both.statistics.drops == {"departed": 2}

    def test_the_watermark_waits_for_it_and_never_goes_back(self):
        both = Driver("a", "b")
        both("a", Watermark(10))
        both("b", Watermark(20))
        assert marks(both("a", Lost("a"))) == [20]
        both.readmit("a")
        assert both("b", Watermark(30)) == []
        assert both("a", Watermark(5), Watermark(20)) == []
        assert both("a", Watermark(25)) == [(None, Watermark(25))]

    def test_the_last_input_of_all_can_come_back(self):
        one = Driver("a")
        one("a", Lost("a"))
        assert one.aligner.done
        one.readmit("a")
        assert not one.aligner.done
        assert one("a", barrier(1), End()) == [aligned(1), ("a", End("default"))]

    def test_a_checkpoint_that_ended_with_all_inputs_is_not_opened_again(self):
        both = Driver("a", "b")
        both("a", barrier(1))
        both.aligner.leave("a", 0)
        both("b", Lost("b"))
        both.readmit("a")
        assert both("a", barrier(1), barrier(2)) == [aligned(2)]
        assert both.statistics.drops == {"late": 1}

    def test_nothing_happens_to_one_that_is_an_input(self):
        both = Driver("a", "b")
        both("a", barrier(1), Lost("a"))
        assert both.readmit("a") == []
        assert both("b", barrier(1)) == [aligned(1), ("a", Lost("a"))]

    def test_only_inputs_can_be_readmitted_or_dismissed(self):
        both = Driver("a", "b")
        with pytest.raises(ConfigError, match="stranger is not among the inputs"):
            both.readmit("stranger")
        with pytest.raises(ConfigError, match="stranger is not among the inputs"):
            both.dismiss("stranger")


class TestDismissal:
    def test_nobody_waits_for_it_and_nothing_of_it_comes_out(self):
        both = Driver("a", "b")
        both("a", barrier(1), data(1))
        both("b", data(2))
        assert both.dismiss("b") == [aligned(1), *rows("a", 1)]
        assert both("b", data(3), barrier(1), Lost("b")) == []
        assert both.statistics.drops == {"departed": 3}
        assert both.statistics.returned == frozenset()

    def test_what_is_held_of_both_lives_is_refused_in_its_order(self):
        both = Driver("a", "b")
        both("a", barrier(1), data(1), Lost("a"), data(2), data(3))
        assert both.dismiss("a") == []
        assert both.refused == [data(1), Lost("a"), data(2), data(3)]
        assert both.statistics.drops == {"departed": 4}
        assert both("b", barrier(1)) == [aligned(1)]

    def test_it_can_be_readmitted(self):
        both = Driver("a", "b")
        both.dismiss("a")
        both("a", data(1))
        both.readmit("a")
        assert both("a", data(2)) == rows("a", 2)
        both("a", Lost("a"), data(3))
        assert both.readmit("a") == rows("a", 3)


def marks(events):
    return [message.timestamp for peer, message in events if isinstance(message, Watermark)]


class TestWatermarks:
    def test_is_the_minimum_and_only_grows(self):
        both = Driver("a", "b")
        assert both("a", Watermark(10)) == []
        assert both("b", Watermark(5)) == [(None, Watermark(5))]
        assert both("b", Watermark(7)) == [(None, Watermark(7))]
        assert both("b", Watermark(3), Watermark(7)) == []
        assert both("b", Watermark(20)) == [(None, Watermark(10))]
        assert both("a", Watermark(11)) == [(None, Watermark(11))]

    def test_negative_ones(self):
        both = Driver("a", "b")
        both("a", Watermark(-(2**63)))
        assert marks(both("b", Watermark(-1))) == [-(2**63)]
        assert marks(both("a", Watermark(0))) == [-1]

    def test_behind_a_barrier_it_does_not_count_yet(self):
        both = Driver("a", "b")
        both("a", Watermark(1), barrier(1), Watermark(50))
        assert marks(both("b", Watermark(60))) == [1]
        assert both("b", barrier(1)) == [aligned(1), (None, Watermark(50))]

    def test_grows_when_the_slowest_ends_or_leaves(self):
        three = Driver("a", "b", "c")
        three("a", Watermark(30))
        three("b", Watermark(20))
        three("c", Watermark(10))
        assert three("c", End()) == [("c", End()), (None, Watermark(20))]
        assert three("b", Lost("b")) == [("b", Lost("b")), (None, Watermark(30))]
        assert three("a", End()) == [("a", End())]

    def test_of_an_end_comes_before_the_barrier_it_completes(self):
        """It was processed before the barrier was delivered."""
        both = Driver("a", "b")
        both("a", Watermark(9), barrier(1))
        assert both("b", End()) == [("b", End()), (None, Watermark(9)), aligned(1)]

    def test_carries_the_channel(self):
        aligner = BarrierAligner(["a"], "orders")
        assert aligner.process("a", Watermark(1, "orders"), 0) == [(None, Watermark(1, "orders"))]
        assert aligner.process("a", End("orders"), 0) == [("a", End("orders"))]


class TestStatistics:
    def test_what_is_held_and_for_whom(self):
        three = Driver("a", "b", "c")
        three("a", barrier(4), data(1), data(2), size=100)
        three("c", barrier(4))
        now = three.statistics
        assert (now.inputs, now.aligning, now.missing) == (3, 4, {"b"})
        assert (now.held_messages, now.held_bytes) == (2, 200)
        three("b", barrier(4))
        now = three.statistics
        assert (now.aligning, now.missing, now.held_messages, now.held_bytes) == (
            None,
            frozenset(),
            0,
            0,
        )

    def test_the_longest_wait(self):
        both = Driver("a", "b")
        assert both.aligner.statistics(99.0).longest_wait_s == 0
        for first, second, number in ((10, 13, 1), (20, 21, 2)):
            both.now = first
            both("a", barrier(number))
            both.now = second
            both("b", barrier(number))
        assert both.aligner.statistics().longest_wait_s == 3
        both.now = 30
        both("a", barrier(3))
        assert both.aligner.statistics().longest_wait_s == 3
        assert both.aligner.statistics(40).longest_wait_s == 10

    def test_is_a_snapshot(self):
        both = Driver("a", "b")
        before = both.statistics
        both("a", barrier(1), barrier(1))
        both("b", barrier(1))
        assert (before.aligned, before.drops) == (0, {})


# -- against a model ------------------------------------------------------------------------------


PEERS = ("a", "b", "c")
peers = st.sampled_from(PEERS)


class Model:
    """The same, written down as directly as it can be: every input is one list.

    Over and over, look for the first input that may have its head processed. A checkpoint is
    looked up in the whole history of what every input has delivered.
    """

    def __init__(self):
        self.queues = {peer: deque() for peer in PEERS}
        self.gone = set()
        self.ending = set()
        self.delivered = {peer: [] for peer in PEERS}
        self.finished = {-1}
        self.aborted = set()
        self.marks = dict.fromkeys(PEERS)
        self.next_lives = {peer: [] for peer in PEERS}
        self.dismissed = set()

    def put(self, peer, message):
        if peer not in self.gone | self.ending:
            self.queues[peer].append(message)
            if isinstance(message, Lost | End):
                self.ending.add(peer)
        elif peer not in self.dismissed:
            life = self.next_lives[peer]
            if life and isinstance(life[-1], Lost | End):
                life.clear()
            life.append(message)

    def readmit(self, peer):
        if peer not in self.gone:
            return
        self.gone.discard(peer)
        self.ending.discard(peer)
        self.dismissed.discard(peer)
        self.queues[peer] = deque(self.next_lives[peer])
        self.next_lives[peer].clear()
        if self.queues[peer] and isinstance(self.queues[peer][-1], Lost | End):
            self.ending.add(peer)
        self.marks[peer] = None
        if not self.over(self.newest()):
            self.delivered[peer].append(self.newest())

    def dismiss(self, peer):
        self.dismissed.add(peer)
        self.next_lives[peer].clear()
        self.queues[peer].clear()
        self.gone.add(peer)
        self.give_up_with_the_last()

    def give_up_with_the_last(self):
        """Nobody is left for whom a checkpoint could come out."""
        if not self.live():
            self.finished.add(self.newest())

    def live(self):
        return [peer for peer in PEERS if peer not in self.gone]

    def newest(self):
        return max((n for given in self.delivered.values() for n in given), default=-1)

    def over(self, number):
        return number in self.finished | self.aborted or number < self.newest()

    def blocked(self, peer):
        given = self.delivered[peer]
        return bool(given) and not self.over(given[-1])

    def settle(self):
        """Process all that may be; what became of it as sets, as the order is the aligner's."""
        done = []
        again = True
        while again:
            again = False
            for peer in self.live():
                while self.queues[peer] and peer not in self.gone and not self.blocked(peer):
                    done += self.process(peer, self.queues[peer].popleft())
                    again = True
            completed = self.complete()
            done += completed
            again = again or bool(completed)
        return done

    def process(self, peer, message):
        if isinstance(message, Data):
            return [(peer, message)]
        if isinstance(message, Barrier):
            number = message.barrier.checkpoint_id
            if not self.over(number):
                self.delivered[peer].append(number)
            elif number > self.newest():
                self.delivered[peer].append(number)  # aborted, but nothing older can come
            return self.complete()
        if isinstance(message, Watermark):
            self.marks[peer] = max(message.timestamp, self.marks[peer] or 0)
            return []
        self.gone.add(peer)
        self.queues[peer].clear()
        self.give_up_with_the_last()
        return [(peer, message), *self.complete()]

    def complete(self):
        number = self.newest()
        if self.live() and not self.over(number) and all(map(self.blocked, self.live())):
            self.finished.add(number)
            return [aligned(number)]
        return []


@dataclass
class Life:
    """What a peer has sent in one life, and the barriers that its first message is behind."""

    behind: set = field(default_factory=set)
    sent: list = field(default_factory=list)


@settings(max_examples=300, stateful_step_count=40)
class Machine(RuleBasedStateMachine):
    """Inputs that send what they like: ids grow mostly, and sometimes come again or late."""

    def __init__(self):
        super().__init__()
        self.driver = Driver(*PEERS)
        self.model = Model()
        self.expected = []
        self.lives = {peer: [Life()] for peer in PEERS}
        self.mark = 0
        self.next_row = 0
        self.next_id = dict.fromkeys(PEERS, 1)

    def arrive(self, peer, message):
        if isinstance(message, Lost | End):
            self.lives[peer].append(Life())
        else:
            self.lives[peer][-1].sent.append(message)
        self.driver(peer, message)
        self.model.put(peer, message)
        self.expected += self.model.settle()

    @rule(peer=peers)
    def row(self, peer):
        self.next_row += 1
        self.arrive(peer, data(self.next_row))

    @rule(peer=peers, timestamp=st.integers(1, 50))
    def watermark(self, peer, timestamp):
        self.arrive(peer, Watermark(timestamp))

    @rule(peer=peers, skipped=st.sampled_from([0, 0, 0, 1]))
    def next_barrier(self, peer, skipped):
        number = self.next_id[peer] + skipped
        self.next_id[peer] = number + 1
        self.arrive(peer, barrier(number))

    @rule(peer=peers, back=st.integers(1, 3))
    def old_barrier(self, peer, back):
        self.arrive(peer, barrier(max(0, self.next_id[peer] - back)))

    @rule(number=st.integers(0, 12))
    def abort(self, number):
        self.driver.abort(number)
        if not self.model.over(number):
            self.model.aborted.add(number)
        self.expected += self.model.settle()

    @rule(peer=peers, how=st.sampled_from([End, Lost]))
    @precondition(lambda self: len(self.lives["a"][0].sent) > 2)
    def leave(self, peer, how):
        self.arrive(peer, Lost(peer) if how is Lost else End())

    @rule(peer=peers)
    def readmit(self, peer):
        if peer in self.model.gone:
            if peer in self.model.dismissed:  # what it has sent by now is not kept
                self.lives[peer].append(Life())
            waiting = self.model.next_lives[peer]
            over = waiting and isinstance(waiting[-1], Lost | End)
            life = self.lives[peer][-2 if over else -1]
            life.behind = self.model.finished | {self.model.newest()}
        self.driver.readmit(peer)
        self.model.readmit(peer)
        self.expected += self.model.settle()

    @rule(peer=peers)
    @precondition(lambda self: self.next_row > 4)
    def dismiss(self, peer):
        self.driver.dismiss(peer)
        self.model.dismiss(peer)
        self.expected += self.model.settle()

    @invariant()
    def the_same_comes_out_at_once(self):
        """Of each input and of all together, in the same order: so nothing is stuck or lost."""
        extra = (Superseded, Watermark)
        out = [event for event in self.driver.out if not isinstance(event[1], extra)]
        for who in (*PEERS, None):
            told = [message for peer, message in out if peer == who]
            assert told == [message for peer, message in self.expected if peer == who]

    @invariant()
    def no_row_crosses_a_barrier(self):
        """A row comes out behind exactly those barriers that it was sent behind."""
        released = [m.barrier.checkpoint_id for _, m in self.driver.out if isinstance(m, Barrier)]
        assert sorted(set(released)) == released
        for peer in PEERS:
            sent_behind = {}
            for life in self.lives[peer]:
                behind = set(life.behind)
                for message in life.sent:
                    if isinstance(message, Barrier):
                        behind.add(message.barrier.checkpoint_id)
                    elif isinstance(message, Data):
                        sent_behind[message.batch] = behind.intersection(released)
            came_behind = set()
            for who, message in self.driver.out:
                if isinstance(message, Barrier):
                    came_behind.add(message.barrier.checkpoint_id)
                elif who == peer and isinstance(message, Data):
                    assert came_behind == sent_behind[message.batch]

    @invariant()
    def the_watermark_is_the_minimum_of_what_was_let_through(self):
        told = marks(self.driver.out)
        assert sorted(set(told)) == told
        lowest = [self.model.marks[peer] for peer in self.model.live()]
        if lowest and None not in lowest:
            assert told[-1] == max(min(lowest), self.mark)
        if told:  # it does not go back for one that is readmitted
            assert told[-1] >= self.mark
            self.mark = told[-1]

    @invariant()
    def nothing_is_held_unless_a_checkpoint_is_incomplete(self):
        now = self.driver.statistics
        if now.aligning is None:
            assert (now.held_messages, now.held_bytes) == (0, 0)
        else:
            assert now.missing
            assert now.missing <= self.driver.aligner.live


TestAgainstTheModel = Machine.TestCase
