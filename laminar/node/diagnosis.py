"""What a doctor's findings mean, and what to do about them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from laminar.cluster.gossip.member import MemberState
from laminar.errors import NAMED_MAX
from laminar.node.consultation import Answer
from laminar.node.findings import EtcdFindings, Findings, MemberFindings, SeedFindings
from laminar.shuffle.reach import Probe, Reach

CLOCK_AHEAD_S_MAX: Final = 5.0
"""Clocks further apart than this are worth a word: incarnations are made of them."""


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """It may be so on purpose."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that was looked at."""

    about: str
    """``seed <addr>``, ``member <id>`` or ``here``."""
    what: str
    """``name``, ``TCP``, ``UDP``, ``clock``, …"""
    level: Level
    text: str
    advice: str = ""
    """What to do."""


HANDSHAKE: Final = {
    "cluster": "give both the same --cluster",
    "key": "give both the same --keys file (`laminar keys show FILE` tells which key is which)",
    "certificate": "have both certificates signed by an authority that the other's TLS trusts, "
    "and name their nodes",
    "tls": "set TLS on both sides",
    "magic": "something else listens there: check host and port",
    "version": "run versions of Laminar that speak the same protocol",
    "identity": "give this one an --id that no running node has",
    "peers": "raise peers_max there",
    "timeout": "something else listens there, or the process hangs: look at it",
    "hangup": "it turns connections away: look at its limits and its log",
    "network": "look at what is between the two: a proxy or a firewall may cut connections",
}

DATAGRAMS: Final = {
    "cluster": (
        "of another cluster",
        "its nodes have this address as a seed: give all that belong together the same --cluster",
    ),
    "unsealed": ("without a key", "their sender needs the same --keys file"),
    "key": ("sealed with a key that is not in this keyring", "give all nodes the same --keys file"),
    "forged": ("changed on the way, or made without the key they name", "look at who sends them"),
    "version": ("of another version of the gossip", "run the same Laminar everywhere"),
    "malformed": ("that are no gossip", "something else sends there: look at what it is"),
    "short": ("that are no gossip", "something else sends there: look at what it is"),
    "size": ("larger than datagram_bytes_max", "give all nodes the same datagram_bytes_max"),
    "sender": ("from a sender with no valid name", "look at who sends them"),
}
"""What is worth telling; what comes twice or late is as the network is."""


def diagnose(findings: Findings) -> list[Verdict]:
    """All verdicts, in the order in which to read them."""
    verdicts: list[Verdict] = []
    if findings.has_taken_id:
        text = (
            f"a node that runs has the id {findings.node!r}; the two cannot connect to each other, "
            "and a second node of that id would stop it"
        )
        verdicts.append(Verdict("here", "id", Level.WRONG, text, "take another --id"))
    if findings.etcd is not None:
        verdicts += _etcd(findings.etcd)
    for seed in findings.seeds:
        verdicts += _seed(seed, findings)
    for member in findings.members:
        verdicts += _member(member, findings)
    verdicts += _here(findings)
    return verdicts


def _etcd(etcd: EtcdFindings) -> Iterator[Verdict]:
    if etcd.error:
        advice = "start etcd, correct etcd.endpoints, or see what lies between it and this machine"
        yield Verdict("etcd", "answer", Level.WRONG, etcd.error, advice)
        return
    yield Verdict("etcd", "answer", Level.OK, " and ".join(etcd.endpoints))
    where = f"below {etcd.prefix!r}"
    if etcd.published:
        names = sorted(etcd.published)
        more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        text = f"{', '.join(names[:NAMED_MAX])}{more} have published an address {where}"
        yield Verdict("etcd", "nodes", Level.OK, text)
    else:
        yield Verdict(
            "etcd",
            "nodes",
            Level.WRONG,
            f"no node has published an address {where}",
            "start some, and give all of a cluster the same etcd.prefix",
        )


def _seed(seed: SeedFindings, findings: Findings) -> Iterator[Verdict]:
    about = f"seed {seed.seed}" if seed.expected is None else f"node {seed.expected}"
    if not seed.addrs:
        yield Verdict(
            about,
            "name",
            Level.WRONG,
            f"{seed.seed} cannot be resolved",
            "correct the name, or this machine's DNS or /etc/hosts",
        )
        return
    yield Verdict(about, "name", Level.OK, " and ".join(seed.addrs))
    yield from _tcp(about, "TCP", seed.probe)
    there = seed.probe.node if seed.probe is not None else None
    if seed.expected is not None and there not in (None, seed.expected):
        yield Verdict(
            about,
            "id",
            Level.WRONG,
            f"{there} listens there",
            f"{seed.expected} may have died not long ago; or correct the address that it is given",
        )
    if findings.gossips:
        yield _seed_udp(about, seed)
        if seed.answered_by is not None and findings.misses(seed.answered_by):
            yield Verdict(
                about,
                "member",
                Level.WRONG,
                f"{seed.answered_by} answers, but is no member that the others see",
                "it has left or is about to: see whether its process should run, and start it anew",
            )


def _seed_udp(about: str, seed: SeedFindings) -> Verdict:
    if seed.answered_by is not None:
        return Verdict(about, "UDP", Level.OK, f"{seed.answered_by} answers")
    probe, sent = seed.probe, f"{seed.datagrams_sent} datagrams sent, none answered"
    if probe is not None and probe.reach is Reach.GREETED:
        advice = (
            "open the port for UDP too, in both directions: TCP gets through, so it is the right "
            "node; or it has another key for gossip"
        )
    elif probe is not None and probe.reach is Reach.CONNECTED:
        sent += ", as is to be expected after the refusal over TCP"
        advice = "see to TCP first"
    else:
        advice = "see to TCP first: there may be no node at all"
    return Verdict(about, "UDP", Level.WRONG, sent, advice)


def _tcp(about: str, what: str, probe: Probe | None) -> Iterator[Verdict]:
    """From here to there."""
    if probe is None:
        yield Verdict(about, what, Level.WRONG, "no result in time", "try a longer --timeout")
    elif probe.reach is Reach.NOWHERE:
        if probe.reason == "timeout":
            advice = (
                "a firewall drops it, or the host is down: open the port for TCP, and check that "
                "the address is one that this machine can reach"
            )
        else:
            advice = (
                "start a node there, have it listen at an address that others can reach (not "
                "127.0.0.1), or correct the port"
            )
        yield Verdict(about, what, Level.WRONG, probe.detail, advice)
    elif probe.reach is Reach.CONNECTED:
        who = "it refuses the handshake" if probe.told else "the handshake fails"
        advice = HANDSHAKE.get(probe.reason, "look at the log of the node there")
        yield Verdict(about, what, Level.WRONG, f"{who}: {probe.detail}", advice)
    else:
        text = f"{probe.node} lets this node in" if probe.node else "it lets this node in"
        yield Verdict(about, what, Level.OK, text)


def _member(member: MemberFindings, findings: Findings) -> Iterator[Verdict]:
    about = f"member {member.node}"
    if member.state in (MemberState.SUSPECT, MemberState.DEAD):
        yield Verdict(
            about,
            "state",
            Level.WRONG,
            f"it is {member.state.value}, as this node sees it",
            "see whether its process runs",
        )
    if member.state is MemberState.DEAD:
        return
    if member.data_addr is None:
        yield Verdict(
            about,
            "TCP there",
            Level.NOTE,
            "it has published no shuffle:addr: nobody can send rows to it",
            "it may be about to start or to stop, or take part in the gossip only",
        )
    elif not findings.is_own(member):
        yield from _tcp(about, f"TCP there ({member.data_addr})", member.probe)
    if not findings.is_own(member):
        yield from _back(about, member.answer, findings)
    yield _udp(about, member)
    if member.clock_ahead_s is not None:
        yield _clock(about, *member.clock_ahead_s)
    if member.answer is not None and member.answer.version:
        yield _version(about, member.answer.version, findings.version)


def _back(about: str, answer: Answer | None, findings: Findings) -> Iterator[Verdict]:
    what = f"TCP back ({findings.addr})"
    if answer is None:
        yield Verdict(
            about,
            what,
            Level.WRONG,
            "it has not told whether it can connect to this node",
            "see to UDP first, which the answer comes by; an older Laminar does not answer",
        )
    elif answer.reach == Reach.GREETED.value:
        yield Verdict(about, what, Level.OK, "it can connect to this node")
    elif answer.reach == Reach.NOWHERE.value:
        yield Verdict(
            about,
            what,
            Level.WRONG,
            f"it cannot connect to this node: {answer.detail}",
            "open the port for TCP here, and --advertise an address that others can reach; where "
            "only a node's own port is open, stop it and run the doctor with its --listen",
        )
    else:
        advice = HANDSHAKE.get(answer.reason, "look at the log of that node")
        text = f"it connects to this node, but the handshake fails: {answer.detail}"
        yield Verdict(about, what, Level.WRONG, text, advice)


def _udp(about: str, member: MemberFindings) -> Verdict:
    if member.answers:
        if member.addr is not None and member.heard_from != member.addr:
            return Verdict(
                about,
                "UDP",
                Level.NOTE,
                f"both ways, but it says to be at {member.addr} and speaks from "
                f"{member.heard_from}",
                "behind NAT others cannot begin to speak to it: --advertise an address that all "
                "can reach",
            )
        return Verdict(about, "UDP", Level.OK, "both ways")
    if member.heard:
        return Verdict(
            about,
            "UDP",
            Level.WRONG,
            f"from there only: its datagrams come, but what is sent to {member.addr} is not "
            "answered",
            "open UDP towards that node, and check that it advertises the right address",
        )
    return Verdict(
        about,
        "UDP",
        Level.WRONG,
        f"nothing comes from {member.addr} itself; others tell of it",
        "open UDP between the two in both directions, and see whether its process runs",
    )


def _clock(about: str, least_s: float, most_s: float) -> Verdict:
    """The true offset is between the two."""
    if least_s > CLOCK_AHEAD_S_MAX or most_s < -CLOCK_AHEAD_S_MAX:
        away = least_s if least_s > 0 else -most_s
        way = "ahead of" if least_s > 0 else "behind"
        return Verdict(
            about,
            "clock",
            Level.WRONG,
            f"{away:.0f} s or more {way} that of this machine",
            "run NTP on both: with wrong clocks a node that restarts may be taken for an old one",
        )
    return Verdict(about, "clock", Level.OK, "agrees with that of this machine")


def _version(about: str, theirs: str, ours: str) -> Verdict:
    if theirs == ours:
        return Verdict(about, "version", Level.OK, theirs)
    text = f"Laminar {theirs}, and {ours} here"
    return Verdict(about, "version", Level.NOTE, text, "run the same version everywhere")


def _here(findings: Findings) -> Iterator[Verdict]:
    for (reason, source), count in sorted(findings.datagrams_refused.items()):
        if reason in DATAGRAMS:
            what, advice = DATAGRAMS[reason]
            text = f"{count} from {source} refused: {what}"
            yield Verdict("here", "datagrams", Level.WRONG, text, advice)
    for reason, count in sorted(findings.connections_refused.items()):
        if reason == "identity" and findings.has_taken_id:
            continue
        advice = HANDSHAKE.get(reason, "look at who connects")
        text = f"{count} refused: {reason}"
        yield Verdict("here", "connections", Level.WRONG, text, advice)
    if findings.gossips and not findings.members:
        yield Verdict(
            "here",
            "members",
            Level.WRONG,
            "no member was found",
            "see the seeds above" if findings.seeds else "give the address of any node as --seed",
        )
    if not findings.gossips:
        text = "whether others can connect to this node was not examined"
        advice = "run the doctor on their machines, too"
        yield Verdict("here", "TCP back", Level.NOTE, text, advice)
    if findings.others:
        text = f"{findings.others} more members were not examined"
        yield Verdict("here", "members", Level.NOTE, text)
