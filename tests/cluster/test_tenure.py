"""Newcomers push out newcomers, or those who fell silent."""

from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.tenure import Tenure

ROOM, IDLE_S = 4, 10.0


def test_a_flood_leaves_those_who_were_there():
    table = Tenure(ROOM, IDLE_S)
    for name in "abc":
        table.put(name, name.upper(), 0.0)
    for number in range(1000):
        now = number / 100
        if number % 500 == 0:
            for name in "abc":
                table.seen(name, now)
        table.put(number, "stranger", now)
    assert [table.get(name) for name in "abc"] == ["A", "B", "C"]
    assert table.get(999) == "stranger"
    assert table.get(998) is None
    assert len(table) == ROOM


def test_the_one_that_was_silent_longest_makes_room():
    table = Tenure(2, IDLE_S)
    table.put("a", 1, 0.0)
    table.put("b", 2, 1.0)
    table.seen("a", 2.0)
    table.put("c", 3, 11.5)
    assert (table.get("a"), table.get("b"), table.get("c")) == (1, None, 3)


def test_putting_again_needs_no_room():
    table = Tenure(2, IDLE_S)
    table.put("a", 1, 0.0)
    table.put("b", 2, 0.0)
    table.put("b", 3, 100.0)
    assert (table.get("a"), table.get("b")) == (1, 3)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "see", "drop"]),
        st.integers(0, 8),
        st.sampled_from([0.0, 0.5, 11.0]),
    ),
    max_size=60,
)


@given(STEPS)
def test_against_a_plain_list(steps):
    table, model, now = Tenure(ROOM, IDLE_S), {}, 0.0
    for what, key, passed in steps:
        now += passed
        if what == "put":
            if key not in model and len(model) == ROOM:
                silent = min(model, key=lambda name: model[name][1])
                gone = silent if now - model[silent][1][0] > IDLE_S else list(model)[-1]
                del model[gone]
            model[key] = ("entry", (now, _tick()))
            table.put(key, "entry", now)
        elif key in model and what == "see":
            model[key] = ("entry", (now, _tick()))
            table.seen(key, now)
        elif key in model:
            del model[key]
            table.drop(key)
        assert {name for name in range(9) if table.get(name)} == model.keys()
        assert len(table) == len(table._seen) == len(model) <= ROOM


_TICKS = iter(range(10**9))


def _tick():
    """Tells apart what happened at one time."""
    return next(_TICKS)
