import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.shuffle.blocked import Blocked


def test_nobody_has_waited_yet():
    assert Blocked().seconds(1000.0) == 0


def test_a_wait_counts_while_it_lasts():
    blocked = Blocked()
    blocked.begin(10.0)
    assert blocked.seconds(10.0) == 0
    assert blocked.seconds(12.5) == 2.5
    blocked.end(14.0)
    assert blocked.seconds(99.0) == 4


def test_those_who_wait_together_are_each_counted():
    blocked = Blocked()
    blocked.begin(0.0)
    blocked.begin(1.0)
    assert blocked.seconds(3.0) == 3 + 2
    blocked.end(3.0)
    blocked.end(4.0)
    assert blocked.seconds(5.0) == 3 + 3


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=20))
def test_the_sum_of_all_waits(waits):
    blocked = Blocked()
    moments = [(start, +1) for start, _ in waits] + [(start + long, -1) for start, long in waits]
    for now, change in sorted(moments, key=lambda moment: (moment[0], -moment[1])):
        (blocked.begin if change > 0 else blocked.end)(now)
    assert blocked.seconds(1000) == pytest.approx(sum(long for _, long in waits))
