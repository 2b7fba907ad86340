"""The pure core of watching, against a model that keeps everything."""

from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.kv import KvEvent
from laminar.cluster.watch import WatchQueue
from laminar.model import node_id

A = node_id("a")

CHANGES = st.tuples(
    st.sampled_from([A, node_id("b")]),
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from([None, "1", "2"]),
)
TAKE = st.none()


@given(st.lists(CHANGES | TAKE, max_size=60))
def test_what_was_told_and_what_is_pending_is_the_state(steps):
    queue, state, told = WatchQueue(), {}, {}
    for step in steps:
        if step is None:
            hear(queue, told)
        else:
            node, key, value = step
            queue.changed(node, key, value)
            store(state, (node, key), value)
        cells = state.keys() | told.keys()
        assert len(queue) == sum(state.get(cell) != told.get(cell) for cell in cells)
    while len(queue):
        hear(queue, told)
    assert told == state
    assert queue.take() is None


@given(st.lists(CHANGES | TAKE, max_size=60))
def test_memory_is_bounded_by_keys_told_and_existing(steps):
    queue, state, told = WatchQueue(), {}, {}
    for step in steps:
        if step is None:
            hear(queue, told)
        else:
            node, key, value = step
            queue.changed(node, key, value)
            store(state, (node, key), value)
        assert queue._pending.keys() <= state.keys() | told.keys()
        assert queue._told == told


def test_the_longest_waiting_key_comes_first_with_its_latest_value():
    queue = WatchQueue()
    queue.changed(A, "x", "1")
    queue.changed(A, "y", "1")
    queue.changed(A, "x", "2")
    assert queue.take() == KvEvent(A, "x", "2")
    assert queue.take() == KvEvent(A, "y", "1")


def test_changed_says_whether_there_is_something_to_tell():
    queue = WatchQueue()
    assert queue.changed(A, "x", "1")
    assert not queue.changed(A, "x", None)
    assert queue.changed(A, "x", "1")
    queue.take()
    assert not queue.changed(A, "x", "1")
    assert queue.changed(A, "x", "2")
    assert not queue.changed(A, "x", "1")
    assert len(queue) == 0


def hear(queue, told):
    event = queue.take()
    if event is not None:
        assert told.get((event.node, event.key)) != event.value
        store(told, (event.node, event.key), event.value)


def store(state, cell, value):
    if value is None:
        state.pop(cell, None)
    else:
        state[cell] = value
