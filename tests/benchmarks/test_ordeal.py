"""What is done to a cluster: the same for the same seed, and fair to measure."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gossip import ORDEAL_QUICK, ORDEALS
from benchmarks.ordeal import Action, Deed, Ordeal

SEEDS = st.integers(min_value=0, max_value=2**32)
ANY = pytest.mark.parametrize("ordeal", [*ORDEALS, ORDEAL_QUICK], ids=lambda o: str(o.agents))


def of(actions: list[Action], deed: Deed) -> list[Action]:
    return [action for action in actions if action.deed is deed]


@ANY
def test_a_seed_repeats_it_and_another_one_does_not(ordeal: Ordeal) -> None:
    assert ordeal.actions(1) == ordeal.actions(1) != ordeal.actions(2)


@ANY
@given(seed=SEEDS)
def test_all_of_it_is_done_in_order_and_in_time(ordeal: Ordeal, seed: int) -> None:
    actions = ordeal.actions(seed)
    times = [action.at for action in actions]
    stops = [*ordeal.short_stops, *ordeal.long_stops]
    assert times == sorted(times)
    assert all(0 <= at <= ordeal.seconds for at in times)
    assert len(of(actions, Deed.KILL)) == ordeal.kills
    assert len(of(actions, Deed.CHANGE)) == ordeal.changes
    lengths = [
        resume.at - stop.at
        for stop in of(actions, Deed.STOP)
        for resume in of(actions, Deed.RESUME)
        if stop.agent == resume.agent
    ]
    assert sorted(lengths) == pytest.approx(sorted(stops))


@ANY
@given(seed=SEEDS)
def test_nobody_suffers_twice_and_keys_are_of_the_others(ordeal: Ordeal, seed: int) -> None:
    actions = ordeal.actions(seed)
    afflicted = [action.agent for action in actions if action.deed in (Deed.KILL, Deed.STOP)]
    assert len(set(afflicted)) == len(afflicted)
    assert not {action.agent for action in of(actions, Deed.CHANGE)} & {*afflicted}


@ANY
@given(seed=SEEDS)
def test_a_key_has_time_to_arrive_before_its_next_change(ordeal: Ordeal, seed: int) -> None:
    changes = of(ordeal.actions(seed), Deed.CHANGE)
    assert len({change.value for change in changes}) == len(changes)
    for owner in {change.agent for change in changes}:
        times = [change.at for change in changes if change.agent == owner]
        assert all(later - earlier > 5 for earlier, later in pairwise(times))


def test_two_agents_are_left_alone() -> None:
    Ordeal(agents=5, seconds=60, kills=1, short_stops=(1,), long_stops=(20,), changes=1)
    with pytest.raises(ValueError, match="4 agents are too few"):
        Ordeal(agents=4, seconds=60, kills=1, short_stops=(1,), long_stops=(20,), changes=1)
