"""Who is the node, if two say so."""

from laminar.cluster.gossip.identity import (
    CLAIM_ROUNDS,
    SETTLED_ROUNDS,
    Identity,
    Verdict,
    start_incarnation,
)


def test_a_life_is_newer_than_the_last_also_when_the_clock_went_back():
    assert start_incarnation(100, last=7) == 100
    assert start_incarnation(100, last=500) == 501


def test_who_just_started_takes_a_higher_number_at_once():
    identity = Identity()
    assert identity.hear(9, 1, round_=SETTLED_ROUNDS - 1) is Verdict.RENEW
    assert identity.claimed == 9


def test_a_claim_that_lives_is_yielded_to():
    identity = Identity()
    verdicts = [
        identity.hear(9, heartbeat, SETTLED_ROUNDS + heartbeat)
        for heartbeat in range(CLAIM_ROUNDS + 1)
    ]
    assert verdicts == [Verdict.NOTHING] * CLAIM_ROUNDS + [Verdict.YIELD]


def test_a_claim_that_rests_is_outbid():
    identity = Identity()
    for round_ in range(SETTLED_ROUNDS, SETTLED_ROUNDS + CLAIM_ROUNDS):
        assert identity.hear(9, 1, round_) is Verdict.NOTHING
        assert identity.tick(round_) is Verdict.NOTHING
    assert identity.tick(SETTLED_ROUNDS + CLAIM_ROUNDS) is Verdict.RENEW
    assert identity.tick(SETTLED_ROUNDS + 2 * CLAIM_ROUNDS) is Verdict.NOTHING


def test_a_claim_that_is_told_of_late_now_and_then_is_no_life():
    """Say by one that was cut off from who had the name, and is not any more."""
    identity = Identity()
    for beat, round_ in enumerate(range(SETTLED_ROUNDS, SETTLED_ROUNDS + 20, 7)):
        assert identity.hear(9, beat, round_) is Verdict.NOTHING
    assert identity.tick(round_ + CLAIM_ROUNDS) is Verdict.RENEW


def test_stale_news_of_several_tellers_is_not_life():
    """Each knows another heartbeat of the last life, but all are soon told."""
    identity = Identity()
    for round_, heartbeat in enumerate([3, 1, 5, 2, 4, 5, 5, 5, 5, 5, 5], start=SETTLED_ROUNDS):
        assert identity.hear(9, heartbeat, round_) is Verdict.NOTHING
