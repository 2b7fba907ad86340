"""What counts as seen, as missed and as false."""

from __future__ import annotations

import pytest

from benchmarks.ordeal import Action, Deed
from benchmarks.sightings import RECOVERED_SECONDS, UNDISTURBED_SECONDS, Account, Saw, Sighting

ENDED = 200.0
LATER = 100.0 + 2 * UNDISTURBED_SECONDS
KILL = Action(100.0, Deed.KILL, 0)
CHANGE = Action(100.0, Deed.CHANGE, 0, "new")


def stop(agent: int, start: float, end: float) -> list[Action]:
    return [Action(start, Deed.STOP, agent), Action(end, Deed.RESUME, agent)]


def dead(at: float, witness: int, agent: int = 0) -> Sighting:
    return Sighting(at, witness, agent, Saw.DEAD)


def alive(at: float, witness: int, agent: int = 0) -> Sighting:
    return Sighting(at, witness, agent, Saw.ALIVE)


def changed(at: float, witness: int, value: str | None = None) -> Sighting:
    return Sighting(at, witness, 0, Saw.CHANGED, value)


def account(agents: int, done: list[Action], seen: list[Sighting]) -> Account:
    return Account(agents, done, seen, ENDED)


# -- detection ------------------------------------------------------------------------------------


def test_a_detection_is_the_first_word_of_each_witness() -> None:
    seen = [dead(106.0, 2), dead(104.0, 1), dead(109.0, 1), alive(101.0, 1)]
    found = account(3, [KILL], seen).detections()
    assert (list(found.seconds), found.missed) == ([4.0, 6.0], 0)


def test_what_was_said_before_or_of_another_is_no_detection() -> None:
    found = account(3, [KILL], [dead(99.0, 1), dead(101.0, 1, agent=2), dead(103.0, 2)])
    assert list(found.detections().seconds) == [100.0, 3.0]
    assert found.detections().missed == found.missed == 1


@pytest.mark.parametrize(
    ("away", "counts"),
    [
        ([Action(50.0, Deed.KILL, 1)], False),
        ([Action(100.0 + UNDISTURBED_SECONDS / 2, Deed.KILL, 1)], False),
        ([Action(LATER, Deed.KILL, 1)], True),
        (stop(1, 50.0, 100.0 - RECOVERED_SECONDS * 2), True),
        (stop(1, 95.0, 98.0), False),
        (stop(1, 98.0, 101.0), False),
        (stop(1, 100.0 + UNDISTURBED_SECONDS / 2, 130.0), False),
        (stop(1, LATER, LATER + 3), True),
    ],
)
def test_who_is_disturbed_is_no_witness(away: list[Action], counts: bool) -> None:
    done = sorted([KILL, *away], key=lambda action: action.at)
    found = account(3, done, [dead(104.0, 1), dead(105.0, 2)]).detections()
    assert (4.0 in found.seconds, 5.0 in found.seconds) == (counts, True)


# -- keys -----------------------------------------------------------------------------------------


def test_a_key_has_arrived_when_the_last_witness_has_it() -> None:
    found = account(3, [CHANGE], [changed(101.0, 1), changed(100.5, 2)]).convergences()
    assert (list(found.seconds), found.missed) == ([1.0], 0)


def test_another_value_is_not_the_change() -> None:
    seen = [changed(100.5, 1, "old"), changed(101.5, 1, "new"), changed(102.0, 2, "new")]
    assert list(account(3, [CHANGE], seen).convergences().seconds) == [2.0]
    assert account(3, [CHANGE], seen[:2]).convergences().missed == 1


def test_who_returns_has_caught_up_with_the_last_change_of_each_key() -> None:
    done = [
        Action(100.0, Deed.STOP, 2),
        Action(101.0, Deed.CHANGE, 0, "newer"),
        Action(110.0, Deed.CHANGE, 0, "newest"),
        Action(120.0, Deed.RESUME, 2),
    ]
    seen = [changed(121.0, 2, "newer"), changed(123.0, 2, "newest")]
    assert list(account(3, done, seen).catch_ups().seconds) == [3.0]
    assert account(3, done, seen[:1]).catch_ups().missed == 1
    unnamed = [changed(110.1, 2), changed(122.0, 2)]  # the former was said before the stop
    assert list(account(3, done, unnamed).catch_ups().seconds) == [2.0]


# -- stops ----------------------------------------------------------------------------------------


def test_a_return_is_complete_when_the_last_one_who_said_dead_says_alive() -> None:
    seen = [
        *(dead(110.0, witness) for witness in (1, 2)),
        alive(119.0, 1),
        dead(119.5, 1),
        alive(120.1, 1),
        alive(120.4, 2),
    ]
    found = account(4, stop(0, 100.0, 120.0), seen).rejoins()
    assert [round(seconds, 3) for seconds in found.seconds] == [0.4]
    assert found.missed == 0
    assert account(4, stop(0, 100.0, 120.0), seen[:-1]).rejoins().missed == 1


def test_a_long_stop_that_nobody_noticed_is_missed() -> None:
    assert account(3, stop(0, 100.0, 120.0), []).rejoins().missed == 1


def test_a_short_stop_has_no_return() -> None:
    found = account(3, stop(0, 100.0, 103.0), []).rejoins()
    assert (list(found.seconds), found.missed) == ([], 0)


@pytest.mark.parametrize(
    ("done", "at", "false"),
    [
        ([], 50.0, True),
        ([KILL], 99.9, True),
        ([KILL], 100.1, False),
        (stop(0, 100.0, 103.0), 102.0, True),
        (stop(0, 100.0, 103.0), 104.0, True),
        (stop(0, 100.0, 120.0), 110.0, False),
        (stop(0, 100.0, 120.0), 120.1, True),
    ],
)
def test_a_death_is_false_of_whom_lives(done: list[Action], at: float, false: bool) -> None:
    assert bool(account(3, done, [dead(at, 1)]).false_deaths()) is false


def test_nothing_is_missed_when_all_was_seen() -> None:
    done = [CHANGE, Action(101.0, Deed.KILL, 2)]
    seen = [changed(101.0, 1), dead(105.0, 0, agent=2), dead(105.0, 1, agent=2)]
    assert account(3, done, seen).missed == 0
