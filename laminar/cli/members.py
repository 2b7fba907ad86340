"""``laminar members``: the members of a cluster, as one node sees them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from laminar.admin.client import AdminClient
from laminar.cli.asking import ask
from laminar.cli.text import printable, table

HEAD: Final = ("ID", "STATE", "ADDRESS", "SINCE", "DATA")
NONE: Final = "-"


def run(arguments: argparse.Namespace) -> int:
    """Print what is asked for; returns the exit code."""
    show = _follow if arguments.watch else _show
    return ask(arguments.admin, partial(show, as_json=arguments.json))


def started(incarnation: int) -> str | None:
    """When a life began: its incarnation is the time of its start. None if it is not."""
    try:
        began = datetime.fromtimestamp(incarnation // 10**9, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return began.strftime("%Y-%m-%dT%H:%M:%SZ") if incarnation > 0 else None


def described(member: Mapping[str, Any], statistics: Mapping[str, Any]) -> dict[str, Any]:
    """A member as ``--json`` shows it, with its connections by a node's statistics."""
    node = member["node"]
    return {
        **member,
        "since": started(member["incarnation"]),
        "self": node == statistics["node"],
        "data_in": _connected(statistics["receiver"], node),
        "data_out": _connected(statistics["sender"], node),
    }


def row(member: Mapping[str, Any]) -> tuple[str, ...]:
    """A described member as a row of the table."""
    ways = [way for way in ("in", "out") if member[f"data_{way}"]]
    data = "itself" if member["self"] else ",".join(ways)
    cells = (member["node"], member["state"], member["addr"], member["since"], data)
    return tuple(printable(cell or NONE) for cell in cells)


async def _show(client: AdminClient, *, as_json: bool) -> None:
    statistics = await client.get("/statistics")
    members = (await client.get("/members"))["members"]
    found = [described(member, statistics) for member in members]
    if as_json:
        print(json.dumps(found), flush=True)
    else:
        print("\n".join(table([HEAD, *map(row, found)])), flush=True)


async def _follow(client: AdminClient, *, as_json: bool) -> None:
    async with client.follow("/members", watch="1") as members:
        async for member in members:
            found = described(member, await client.get("/statistics"))
            now = datetime.now(UTC).astimezone()
            if as_json:
                line = {"time": now.isoformat(timespec="milliseconds"), **found}
                print(json.dumps(line), flush=True)
            else:
                print("  ".join([f"{now:%H:%M:%S}", *row(found)]), flush=True)


def _connected(end: Mapping[str, Any], node: str) -> bool:
    return bool(end["peers"].get(node, {}).get("alive"))
