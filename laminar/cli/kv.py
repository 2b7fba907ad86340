"""``laminar kv``: what the nodes tell of themselves, as one node sees it."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Any
from urllib.parse import quote

from laminar.admin.client import AdminClient
from laminar.cli.asking import ask
from laminar.cli.text import printable, table


def run(arguments: argparse.Namespace) -> int:
    """Print what is asked for; returns the exit code."""
    if arguments.action == "get":
        question = partial(_get, node=arguments.node, key=arguments.key)
    else:
        action = _scan if arguments.action == "scan" else _watch
        question = partial(action, prefix=arguments.prefix)
    return ask(arguments.admin, partial(question, as_json=arguments.json))


async def _get(client: AdminClient, *, node: str, key: str, as_json: bool) -> None:
    found = await client.get(f"/kv/{quote(node, safe='')}/{quote(key, safe='')}")
    if as_json:
        print(json.dumps(found), flush=True)
    else:  # as it is, for a program; but a terminal obeys nothing of it
        value = found["value"]
        print(printable(value) if sys.stdout.isatty() else value, flush=True)


async def _scan(client: AdminClient, *, prefix: str, as_json: bool) -> None:
    slots: dict[str, dict[str, str]] = await client.get("/kv", prefix=prefix)
    if as_json:
        print(json.dumps(slots), flush=True)
        return
    rows = [
        (node, printable(key), printable(value))
        for node, keys in sorted(slots.items())
        for key, value in sorted(keys.items())
    ]
    if rows:
        print("\n".join(table(rows)), flush=True)


async def _watch(client: AdminClient, *, prefix: str, as_json: bool) -> None:
    async with client.follow("/kv", prefix=prefix, watch="1") as events:
        async for event in events:
            print(json.dumps(event) if as_json else _line(event), flush=True)


def _line(event: dict[str, Any]) -> str:
    value = event["value"]
    what = "deleted" if value is None else f"= {printable(value)}"
    return f"{event['node']}  {printable(event['key'])} {what}"
