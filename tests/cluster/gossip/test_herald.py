"""What is told at once, how often, and not too often."""

from laminar.cluster.gossip.herald import PAUSES, TIMES, Herald

NEVER = float("inf")


def test_what_is_new_is_told_a_few_times_with_a_pause():
    herald = Herald(1.0)
    assert herald.due == NEVER
    herald.changed("a", (1, 2))
    now = 100.0
    assert herald.due <= now
    for _ in range(TIMES):
        assert herald.due < now + 1
        assert herald.take(now) == ({"a": (1, 2)}, [])
        now += 1 / PAUSES
        assert herald.due in (now, NEVER)
    assert herald.due == NEVER
    assert len(herald) == 0


def test_news_that_come_fast_wait_for_the_pause():
    herald = Herald(1.0)
    herald.lives("a")
    herald.take(100.0)
    herald.changed("b", (0, 0))
    assert herald.due == herald.next_at == 100.0 + 1 / PAUSES


def test_what_changes_again_is_told_from_where_it_began():
    """Who missed the first telling can take the second one all the same."""
    herald = Herald(1.0)
    herald.changed("a", (1, 2))
    herald.take(100.0)
    herald.changed("a", (1, 3))
    assert [herald.take(101.0 + turn)[0] for turn in range(TIMES)] == [{"a": (1, 2)}] * TIMES
    herald.changed("a", (1, 4))
    assert herald.take(110.0)[0] == {"a": (1, 4)}


def test_that_a_node_lives_is_told_without_its_changes():
    herald = Herald(1.0)
    herald.lives("a")
    assert herald.take(100.0) == ({"a": None}, [])


def test_who_lives_is_no_longer_accused():
    herald = Herald(1.0)
    herald.accused("a")
    herald.accused("b")
    herald.lives("a")
    assert herald.take(100.0) == ({"a": None}, ["b"])


def test_who_does_not_answer_is_told_once():
    herald = Herald(1.0)
    herald.accused("a")
    assert herald.take(100.0) == ({}, ["a"])
    assert len(herald) == 0
