"""The replay window, against a set that forgets nothing."""

from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.replay import ReplayWindow

SIZE = 8
NUMBERS = st.integers(0, 40) | st.integers(0, 2**64 - 1)


@given(st.lists(NUMBERS, max_size=80))
def test_each_number_is_new_once_and_never_when_it_is_late(numbers):
    window, seen = ReplayWindow(SIZE), set()
    for number in numbers:
        if number <= max(seen, default=-1) - SIZE:
            wanted = "late"
        else:
            wanted = "replay" if number in seen else "new"
        assert window.see(number) == wanted
        if wanted == "new":
            seen.add(number)
        assert window._seen.bit_length() <= SIZE


def test_the_edge_of_the_window():
    window = ReplayWindow(1024)
    assert window.see(1024) == "new"
    assert window.see(0) == "late"
    assert window.see(1) == "new"
    assert window.see(1) == "replay"


def test_a_jump_to_the_end_costs_nothing():
    window = ReplayWindow(1024)
    assert window.see(0) == "new"
    assert window.see(2**64 - 1) == "new"
    assert window.see(0) == "late"
