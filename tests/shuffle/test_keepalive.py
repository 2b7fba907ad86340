from hypothesis import given
from hypothesis import strategies as st

from laminar.shuffle.keepalive import Keepalive, Verdict

INTERVAL_S, TIMEOUT_S = 1.0, 4.0


def watched() -> Keepalive:
    keepalive = Keepalive(INTERVAL_S, TIMEOUT_S, now=100.0)
    assert keepalive.look(101.0) is Verdict.FINE  # the handshake was a sign of life
    return keepalive


def test_whoever_is_heard_of_is_neither_pinged_nor_given_up():
    keepalive = watched()
    for second in range(102, 200):
        keepalive.heard = True
        assert keepalive.look(second) is Verdict.FINE
    assert not keepalive.dead


def test_silence_is_pinged_each_interval_and_ends_in_death():
    keepalive = watched()
    verdicts = [keepalive.look(101.0 + tick) for tick in range(1, 6)]
    assert verdicts == [Verdict.PING] * 4 + [Verdict.DEAD]
    assert keepalive.dead


def test_a_sign_of_life_at_the_last_moment_counts():
    keepalive = watched()
    for tick in range(1, 5):
        assert keepalive.look(101.0 + tick) is Verdict.PING
    keepalive.heard = True
    assert keepalive.look(106.0) is Verdict.FINE
    assert [keepalive.look(106.0 + tick) for tick in range(1, 5)] == [Verdict.PING] * 4


def test_a_pause_of_ones_own_is_not_the_peers_silence():
    keepalive = watched()
    assert keepalive.look(1000.0) is Verdict.PING  # nobody looked for a quarter of an hour
    assert keepalive.look(1001.0) is Verdict.PING
    assert not keepalive.dead


@given(
    st.lists(st.tuples(st.floats(0.9, 3.0), st.booleans()), max_size=60),
    st.floats(1.0, 10.0),
)
def test_only_looking_in_vain_for_longer_than_the_timeout_is_death(looks, timeout_s):
    """And never earlier; a look that comes late counts for one interval."""
    keepalive = Keepalive(INTERVAL_S, timeout_s, now=0.0)
    now, silent_s, first = 0.0, 0.0, True
    for pause, heard in looks:
        now += pause
        if heard:
            keepalive.heard = True
        silent_s = 0.0 if heard or first else silent_s + min(pause, INTERVAL_S)
        verdict = keepalive.look(now)
        first = False
        if silent_s > timeout_s + 1e-6:
            assert verdict is Verdict.DEAD
            return
        if silent_s < timeout_s - 1e-6:
            assert verdict is (Verdict.PING if silent_s else Verdict.FINE)
        elif verdict is Verdict.DEAD:
            return  # at the edge, where floats decide


def test_whoever_asks_hears_when_the_last_sign_of_life_was_found():
    keepalive = watched()
    assert keepalive.heard_at(101.2) == 101.0  # by the look
    keepalive.heard = True
    assert keepalive.heard_at(101.5) == 101.5
    assert keepalive.heard_at(101.9) == 101.5
    keepalive.look(102.0)
    assert keepalive.heard_at(104.0) == 101.5


def test_to_ask_when_takes_nothing_away_from_the_next_look():
    keepalive = watched()
    keepalive.heard = True
    keepalive.heard_at(101.5)
    assert keepalive.look(102.0) is Verdict.FINE
    keepalive.heard_at(102.5)
    assert keepalive.look(103.0) is Verdict.PING
