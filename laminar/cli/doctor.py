"""``laminar doctor``: finds out why nodes do not see each other."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from typing import Any, Final

import anyio

from laminar.admin.client import AdminClient
from laminar.cli.asking import exit_code
from laminar.cli.chronicle import CONNECTIONS, DATAGRAMS, NETWORK
from laminar.cli.options import node_settings
from laminar.cli.text import plural, printable
from laminar.errors import ConfigError, StreamBrokenError
from laminar.net.address import format_addr, parse_addr
from laminar.net.tcp import TcpNetwork
from laminar.net.udp import UdpNetwork
from laminar.node.config import NodeConfig
from laminar.node.diagnosis import Level, Verdict, diagnose
from laminar.node.doctor import Doctor, doctor_id
from laminar.node.findings import Findings
from laminar.node.settings import read_config

EXIT_WRONG: Final = 1

MARKS: Final = {Level.OK: "ok   ", Level.NOTE: "note ", Level.WRONG: "WRONG"}


def run(arguments: argparse.Namespace) -> int:
    """Examine, and print what was found; returns the exit code.

    Raises :class:`~laminar.errors.ConfigError` for settings that make no sense.
    """
    if not arguments.timeout > 0:
        raise ConfigError(f"--timeout is greater than 0, got {arguments.timeout:g}")
    wrong = 0

    async def work() -> None:
        nonlocal wrong
        wrong = await _examine(arguments)

    code = anyio.run(partial(exit_code, work), backend="asyncio")
    return code or (EXIT_WRONG if wrong else code)


async def _examine(arguments: argparse.Namespace) -> int:
    """Returns how many things are wrong."""
    overrides = node_settings(arguments)
    member = doctor_id()
    overrides.setdefault("node", member)
    verdicts: list[Verdict] = []
    statistics: dict[str, Any] | None = None
    if arguments.admin is not None:
        async with AdminClient(arguments.admin) as client:
            statistics = await client.get("/statistics")
        overrides.setdefault("shuffle.cluster", statistics["cluster"])
        verdicts += told_by(statistics)
    config = await _settings(arguments, overrides, statistics)
    findings = await Doctor(config, member=member, timeout_s=arguments.timeout).examine()
    verdicts += diagnose(findings)
    wrong = sum(verdict.level is Level.WRONG for verdict in verdicts)
    if arguments.json:
        print(json.dumps(json_object(findings, verdicts)), flush=True)
    else:
        print("\n".join(lines(findings, verdicts)), flush=True)
    return wrong


async def _settings(
    arguments: argparse.Namespace,
    overrides: dict[str, object],
    statistics: Mapping[str, Any] | None,
) -> NodeConfig:
    """The doctor's own: a port too, unless one is given. ``statistics`` are those of a node."""
    config = read_config(arguments.config, environ=os.environ, overrides=overrides)
    config = replace(config, admin=None, state_file=None)
    if statistics is not None and not (arguments.seed or config.peers or config.etcd):
        seeds, peers = whom(statistics)
        config = replace(config, seeds=seeds, peers=peers)
    if not (config.seeds or config.peers or config.etcd):
        raise ConfigError("whom to examine? Give --seed HOST:PORT, --config FILE or --admin")
    if arguments.listen is not None:
        return config
    host, _ = parse_addr(config.listen)
    if config.advertise is not None:
        # Where others reach it is known, but not at which port if the system chooses one.
        listener = await TcpNetwork().listen(format_addr(host, 0))
        port = parse_addr(listener.local_addr)[1]
        listener.close()
        advertised = format_addr(parse_addr(config.advertise)[0], port)
        return replace(config, listen=format_addr(host, port), advertise=advertised)
    if not arguments.config and "LAMINAR_LISTEN" not in os.environ:
        host = await _host_towards((*config.seeds, *config.peers.values())) or host
    return replace(config, listen=format_addr(host, 0))


async def _host_towards(addrs: Sequence[str]) -> str | None:
    """This machine's address towards the first to which there is a way.

    None if there is none: what is wrong with each is told after the examination.
    """
    for addr in addrs:
        with suppress(StreamBrokenError):
            return await UdpNetwork().host_towards(addr)
    return None


def whom(statistics: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The seeds, or the nodes, to examine: where a node is, or, if it does not gossip, all are."""
    if statistics["discovery"] is not None:
        return (statistics["addr"],), {}
    members = statistics["members"].values()
    addrs = {member["node"]: member["addr"] for member in members if member["state"] != "left"}
    addrs[statistics["node"]] = statistics["addr"]
    return (), {node: addr for node, addr in addrs.items() if addr}


def told_by(statistics: Mapping[str, Any]) -> list[Verdict]:
    """What a running node says itself."""
    about = f"node {statistics['node']}"
    states = [member["state"] for member in statistics["members"].values()]
    seen = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    found = [Verdict(about, "members", Level.OK, f"it sees {seen}")]
    discovery = statistics["discovery"]
    if discovery is not None:
        sources = discovery["seal"]["refused_from"]
        found += _refused(about, "datagrams", discovery["gossip"]["drops"], DATAGRAMS, sources)
    found += _refused(about, "connections", statistics["receiver"]["drops"], CONNECTIONS, {})
    for kind, count in (discovery or {}).get("network_errors", {}).items():
        found.append(Verdict(about, "network", Level.NOTE, f"{NETWORK[kind]}, {count} times"))
    return found


def _refused(
    about: str,
    what: str,
    counts: Mapping[str, int],
    words: Mapping[str, str],
    sources: Mapping[str, str],
) -> Iterator[Verdict]:
    """Something is wrong somewhere, but perhaps not with this node, and perhaps long ago."""
    for reason in words:
        if count := counts.get(reason):
            at = f" (the last one from {sources[reason]})" if reason in sources else ""
            text = f"{count} refused{at}: {words[reason]}"
            yield Verdict(about, what, Level.NOTE, text)


def lines(findings: Findings, verdicts: Sequence[Verdict]) -> list[str]:
    """The verdicts, for people."""
    keys = "with keys" if findings.keyed else "without keys"
    ports = "TCP and UDP" if findings.gossips else "TCP"
    head = f"{findings.node} at {findings.addr} ({ports}), cluster {findings.cluster!r}, {keys}"
    if findings.gossips and findings.member != findings.node:
        head += f"; in the gossip it is {findings.member}"
    out = [head]
    for about, group in groupby(verdicts, key=lambda verdict: verdict.about):
        out += ["", printable(about)]
        for verdict in group:
            out.append(f"  {MARKS[verdict.level]}  {verdict.what}: {printable(verdict.text)}")
            if verdict.advice and verdict.level is not Level.OK:
                out.append(f"         -> {verdict.advice}")
    wrong = sum(verdict.level is Level.WRONG for verdict in verdicts)
    end = f"{plural(wrong, 'thing')} {'is' if wrong == 1 else 'are'} wrong" if wrong else "all well"
    return [*out, "", f"{end}, after {findings.seconds:.1f} s"]


def json_object(findings: Findings, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "node": findings.node,
        "member": findings.member,
        "addr": findings.addr,
        "cluster": findings.cluster,
        "version": findings.version,
        "seconds": round(findings.seconds, 3),
        "wrong": sum(verdict.level is Level.WRONG for verdict in verdicts),
        "verdicts": [{**asdict(verdict), "level": verdict.level.value} for verdict in verdicts],
    }
