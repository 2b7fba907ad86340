"""``laminar keys``: makes and shows keyring files, and replaces the key of a running cluster."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from laminar.admin.client import AdminClient
from laminar.cli.asking import EXIT_OK, ask
from laminar.cli.streams import complain
from laminar.cli.text import plural, printable
from laminar.cluster import keyring_file
from laminar.cluster.keyring import Keyring
from laminar.errors import NAMED_MAX, AdminRefusedError


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked for; returns the exit code.

    Raises :class:`~laminar.errors.ConfigError` when a file is no keyring, or cannot be made.
    """
    if arguments.action == "rotate":
        return ask(
            arguments.admin,
            partial(_rotate, skip_dead=arguments.skip_dead, as_json=arguments.json),
        )
    if arguments.action == "new":
        keyring = keyring_file.create(arguments.file)
        print(f"made {arguments.file} with key {keyring.primary.hex()}: copy it to all nodes")
    else:
        print(_shown(keyring_file.load(arguments.file), as_json=arguments.json))
    return EXIT_OK


def _shown(keyring: Keyring, *, as_json: bool) -> str:
    """The ids of the keys, and never a key."""
    ids = [key.hex() for key in keyring.ids]
    primary = keyring.primary.hex()
    if as_json:
        return json.dumps({"primary": primary, "ids": ids})
    others = [each for each in ids if each != primary]
    return "\n".join([f"{primary}  seals", *(f"{each}  opens" for each in others)])


async def _rotate(client: AdminClient, *, skip_dead: bool, as_json: bool) -> None:
    """Follow the rotation to its end; raises what it ends with."""
    parameters = {"skip_dead": "1"} if skip_dead else {}
    outcome: dict[str, Any] = {}
    async with client.follow("/keys/rotate", method="POST", **parameters) as steps:
        async for outcome in steps:
            if as_json:
                print(json.dumps(outcome), flush=True)
            elif "key" in outcome:
                print(_end(outcome), flush=True)
            elif "failed" not in outcome:
                complain(_progress(outcome))
    if "key" not in outcome:
        lacking = outcome.get("lacking", {})
        named = "; ".join(f"{node}: {printable(why)}" for node, why in lacking.items())
        what = outcome.get("failed", "the node did not say how it ended; ask `laminar keys rotate`")
        raise AdminRefusedError(200, f"{what}: {named}" if named else what, outcome)


def _end(outcome: dict[str, Any]) -> str:
    skipped = outcome["skipped"]
    more = f"; copy the keyring file to {', '.join(skipped)}" if skipped else ""
    users = plural(len(outcome["members"]), "member")
    return f"key {outcome['key']} is the only one of {users} now{more}"


def _progress(step: dict[str, Any]) -> str:
    lacking = step["lacking"]
    named = [f"{node}: {printable(why)}" for node, why in list(lacking.items())[:NAMED_MAX]]
    named += ["and others"] if len(lacking) > NAMED_MAX else []
    return (
        f"of {plural(step['members'], 'member')} {step['installed']} have the new key, "
        f"{step['using']} use it, {step['removed']} have removed the old ones"
        + (f"; waiting for {', '.join(named)}" if named else "")
    )
