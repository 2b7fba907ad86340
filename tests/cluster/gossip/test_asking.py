"""Who is asked again, and when asking was in vain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.gossip.asking import IN_VAIN_MAX, IN_VAIN_MIN, REPEATS, WEIGHT, Asking

LATE = float("inf")


def test_a_question_is_repeated_until_it_is_answered():
    asking = Asking(1.0)
    asking.asked("a", 10.0, 1.0)
    assert asking.due == 10.0 + 1 / REPEATS
    assert asking.take_due(10.1) == []
    ((node, question),) = asking.take_due(asking.due)
    assert node == "a"
    assert not asking.in_vain(question)
    asking.again(question, 10.25, LATE, 1.0)
    assert asking.due == 10.5
    assert asking.in_vain(question)
    assert question.since == 10.0
    asking.answered("a")
    assert "a" not in asking
    assert asking.due == LATE


def test_asking_twice_does_not_begin_anew():
    asking = Asking(1.0)
    asking.asked("a", 10.0, 1.0)
    asking.asked("a", 10.2, 1.0)
    assert asking.ask_now("a", 10.2).since == 10.0
    assert asking.due == 10.25


def test_the_last_question_ends_with_the_patience():
    asking = Asking(1.0)
    question = asking.ask_now("a", 10.0)
    assert asking.take_due(10.0) == [("a", question)]
    asking.again(question, 10.0, 10.1, 1.0)
    assert asking.due == 10.1
    asking.again(question, 10.1, 10.1, 1.0)
    assert asking.due == 10.35


def test_who_is_slow_itself_waits_longer():
    asking = Asking(1.0)
    asking.asked("a", 10.0, 3.0)
    assert asking.due == 10.75


def test_only_questions_that_were_asked_count():
    asking = Asking(1.0)
    asking.ask_now("a", 10.0)
    asking.asked("b", 10.0, 1.0)
    asking.take_due(20.0)
    assert asking.in_vain_total == 1


@given(st.floats(0.0, 0.9))
def test_where_much_is_lost_more_have_to_be_in_vain(loss):
    asking = Asking(1.0)
    for number in range(400):
        question = asking.ask_now("a", 0.0)
        question.asked = 1 + sum(1 for step in range(8) if (number * 8 + step) % 100 < loss * 100)
        asking.answered("a")
    question = asking.ask_now("b", 0.0)
    question.asked = IN_VAIN_MIN
    assert asking.in_vain(question) is (asking.extra_intervals == 0)
    question.asked = IN_VAIN_MAX
    assert asking.in_vain(question)
    if loss > 0.3:
        assert asking.extra_intervals > 0


def test_what_is_asked_in_vain_of_the_dead_does_not_count_as_lost():
    asking = Asking(1.0)
    for _ in range(100):
        asking.ask_now("a", 0.0).asked = 20
        asking.drop("a")
    assert asking.extra_intervals == 0


def test_loss_is_forgotten():
    asking = Asking(1.0)
    asking.ask_now("a", 0.0).asked = 50
    asking.answered("a")
    assert asking.extra_intervals == pytest.approx((IN_VAIN_MAX - IN_VAIN_MIN) / REPEATS)
    for _ in range(int(5 / WEIGHT)):
        asking.ask_now("a", 0.0).asked = 1
        asking.answered("a")
    assert asking.extra_intervals == 0
