"""The command lines of the commands that run, ask and examine nodes. Imports nothing heavy."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from laminar.config import ADMIN_ADDR

Adder: TypeAlias = Callable[..., argparse.ArgumentParser]
"""Adds a command with its name."""

ADMIN_VARIABLE: Final = "LAMINAR_ADMIN"

NODE_EXAMPLES: Final = """\
examples:
  laminar node --id a --listen 127.0.0.1:7946
  laminar node --id b --listen 127.0.0.1:0 --seed 127.0.0.1:7946 --admin 127.0.0.1:0
  laminar node --config node.toml --keys laminar.keys --state /var/lib/laminar/state

exit codes: 0 left after SIGTERM, SIGINT or SIGHUP, 1 failed (another node has its id, say),
2 usage, 129 130 143 ended at once by a second signal
"""

MEMBERS_EXAMPLES: Final = """\
examples:
  laminar members
  laminar members --watch
  laminar members --json --admin 127.0.0.1:7957 | jq '.[] | select(.state == "dead")'
"""

KV_EXAMPLES: Final = """\
examples:
  laminar kv scan
  laminar kv scan shuffle: --json
  laminar kv get a shuffle:addr
  laminar kv watch
"""

DOCTOR_EXAMPLES: Final = """\
examples:
  laminar doctor --seed 10.0.0.1:7946 --seed 10.0.0.2:7946 --keys laminar.keys
  laminar doctor --config node.toml
  laminar doctor --admin 127.0.0.1:7947

exit codes: 0 all is well, 1 something is wrong, 2 usage
"""

KEYS_EXAMPLES: Final = """\
examples:
  laminar keys new laminar.keys
  laminar keys show laminar.keys
  laminar keys rotate
"""


def add_commands(add: Adder) -> None:
    """All commands but ``shuffle``."""
    _add_node(add)
    _add_members(add)
    _add_kv(add)
    _add_doctor(add)
    _add_keys(add)


def node_settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What the flags of a node set, by the names of :func:`laminar.node.settings.read_config`."""
    given: Mapping[str, Any] = vars(arguments)
    flags = {
        "node": given.get("id"),
        "listen": arguments.listen,
        "advertise": arguments.advertise,
        "seeds": arguments.seed,
        "shuffle.cluster": arguments.cluster,
        "shuffle.allow_unauthenticated": arguments.allow_unauthenticated or None,
        "keys_file": arguments.keys,
        "state_file": given.get("state"),
    }
    return {name: value for name, value in flags.items() if value is not None}


def _add_node(add: Adder) -> None:
    node = _command(
        add,
        "node",
        "run a member of a cluster",
        "Run a member of a cluster until a signal ends it, and print what happens there. It is a "
        "member for discovery and the KV, and to try things with: nobody consumes the rows that "
        "are sent to it, so whoever sends some waits once its window is full.",
        NODE_EXAMPLES,
    )
    node.add_argument("--id", metavar="ID", help="the node's id, unique in its cluster")
    _add_settings(node)
    node.add_argument(
        "--state",
        metavar="FILE",
        help="where the node remembers its incarnation, so that its next life is newer even if "
        "the clock went back",
    )
    node.add_argument(
        "--admin",
        metavar="HOST:PORT",
        help=f"where operators ask over HTTP (default {ADMIN_ADDR}), or none",
    )
    node.add_argument("--json", action="store_true", help="one JSON object per line")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        help="settings in TOML; the environment (LAMINAR_SEEDS, …) beats them, and flags beat both",
    )
    add("--listen", metavar="HOST:PORT", help="for data over TCP and gossip over UDP")
    add("--advertise", metavar="HOST:PORT", help="where others reach it, if not at --listen")
    add(
        "--seed",
        action="append",
        metavar="HOST:PORT",
        help="where some node of the cluster listens; may be repeated",
    )
    add("--cluster", metavar="NAME", help="only nodes of one name see each other")
    add("--keys", metavar="FILE", help="the keys that the nodes share; see laminar keys")
    add(
        "--allow-unauthenticated",
        action="store_true",
        help="listen beyond this machine without keys or TLS, for whoever can connect",
    )


def _add_members(add: Adder) -> None:
    members = _command(
        add,
        "members",
        "show the members of a cluster",
        "Show the members of a cluster as one node sees them: SINCE is when each one started, "
        "and DATA whether rows have a connection from (in) or to it (out).",
        MEMBERS_EXAMPLES,
    )
    members.add_argument("--watch", action="store_true", help="go on, with a line per change")
    _add_asking(members)


def _add_kv(add: Adder) -> None:
    kv = _command(
        add,
        "kv",
        "read the keys of the nodes",
        "Read what the nodes tell of themselves, as one node sees it.",
        KV_EXAMPLES,
    )
    actions = kv.add_subparsers(dest="action", metavar="ACTION", required=True)
    get = actions.add_parser("get", help="one value", description="Print one value.")
    get.add_argument("node", metavar="NODE", help="whose")
    get.add_argument("key", metavar="KEY")
    _add_asking(get)
    for name, title in (
        ("scan", "all keys that begin with PREFIX"),
        ("watch", "the same, and then every change"),
    ):
        action = actions.add_parser(name, help=title, description=f"Print {title}.")
        action.add_argument("prefix", metavar="PREFIX", nargs="?", default="")
        _add_asking(action)


def _add_doctor(add: Adder) -> None:
    doctor = _command(
        add,
        "doctor",
        "find out why nodes do not see each other",
        "Join the cluster for a few seconds and examine it: names, ports, cluster, keys, versions "
        "and clocks, over TCP and UDP and in both directions.",
        DOCTOR_EXAMPLES,
    )
    _add_settings(doctor)
    doctor.add_argument(
        "--id",
        metavar="ID",
        help="as whom it introduces itself over TCP (default doctor-HOST-CHANCE); with TLS, one "
        "that its certificate names",
    )
    doctor.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="longest time to wait for answers (default 10)",
    )
    _add_asking(doctor, default=None)


def _add_keys(add: Adder) -> None:
    keys = _command(
        add,
        "keys",
        "make, show and replace the keys of a cluster",
        "Make and show keyring files, and replace the key of a running cluster.",
        KEYS_EXAMPLES,
    )
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser(
        "new", help="make a keyring file", description="Make a file with one new key."
    )
    new.add_argument("file", metavar="FILE", help="must not exist")
    show = actions.add_parser(
        "show",
        help="show which keys are in a file",
        description="Show the ids of the keys in a file, never the keys. The first one is in use.",
    )
    show.add_argument("file", metavar="FILE")
    show.add_argument("--json", action="store_true", help="print JSON")
    rotate = actions.add_parser(
        "rotate",
        help="replace the key of a running cluster",
        description="Have all members of a running cluster use a new key and forget the old ones.",
    )
    rotate.add_argument(
        "--skip-dead",
        action="store_true",
        help="do not wait for members that are dead: copy them the keyring file before they start",
    )
    _add_asking(rotate)


def _addr(text: str) -> str:
    """An address, also as a URL: that is how a node prints where its admin server is."""
    if text == "none":  # as a node may have it
        whence = f", as {ADMIN_VARIABLE} says" if os.environ.get(ADMIN_VARIABLE) == text else ""
        raise argparse.ArgumentTypeError(
            f"nobody can be asked at 'none'{whence}: give --admin HOST:PORT, that of a node with "
            "an admin server"
        )
    return text.removeprefix("http://").rstrip("/")


def _add_asking(parser: argparse.ArgumentParser, default: str | None = ADMIN_ADDR) -> None:
    parser.add_argument(
        "--admin",
        metavar="HOST:PORT",
        type=_addr,
        default=default and os.environ.get(ADMIN_VARIABLE, default),
        help="the admin address of the node to ask"
        + (f" (default ${ADMIN_VARIABLE}, or {default})" if default else ""),
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _command(
    add: Adder, name: str, title: str, description: str, examples: str
) -> argparse.ArgumentParser:
    return add(
        name,
        help=title,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
