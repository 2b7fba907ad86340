"""``laminar node``: runs a member of a cluster, and prints what happens there."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from typing import Final, TypeVar

import anyio

from laminar.cli.chronicle import Chronicle, Event
from laminar.cli.options import node_settings
from laminar.cli.signals import until_signal
from laminar.cli.streams import complain, give_up
from laminar.cli.text import one_line, printable
from laminar.config import ADMIN_ADDR
from laminar.errors import ConfigError, LaminarError, StreamBrokenError
from laminar.node.config import NodeConfig
from laminar.node.node import Node
from laminar.node.settings import read_config

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1

LOOK_INTERVAL_S: Final = 1.0
"""How often the counters of what was refused are looked at."""

_T = TypeVar("_T")


def run(arguments: argparse.Namespace) -> int:
    """Run the node of the parsed arguments until a signal; returns the exit code.

    Raises :class:`~laminar.errors.ConfigError` for settings that make no sense.
    """
    overrides = node_settings(arguments)
    if arguments.admin is not None:
        overrides["admin"] = arguments.admin
    config = read_config(arguments.config, environ=os.environ, overrides=overrides)
    config = replace(config, admin=ADMIN_ADDR if config.admin is None else config.admin)
    work = partial(_run, config, Printer(as_json=arguments.json))
    options = {"use_uvloop": find_spec("uvloop") is not None}
    return anyio.run(work, backend="asyncio", backend_options=options)


class Printer:
    """Prints events on standard output for as long as somebody reads them."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, event: Event) -> None:
        now = datetime.now(UTC).astimezone()
        if self._as_json:
            fields = {name: value for name, value in asdict(event).items() if value is not None}
            line = json.dumps({"time": now.isoformat(timespec="milliseconds")} | fields)
        else:
            line = f"{now:%H:%M:%S} {printable(event.text)}"
        try:
            print(line, flush=True)
        except OSError:  # nobody reads it; the node does its work all the same
            give_up(sys.stdout)


async def _run(config: NodeConfig, tell: Printer) -> int:
    stay = anyio.CancelScope()
    try:
        await until_signal(partial(_live, config, tell, stay), stay.cancel)
    except ConfigError:
        raise
    except LaminarError as error:
        complain(f"laminar: {one_line(error)}")
        return EXIT_FAILURE
    tell(Event("stopped", f"{config.node} has left"))
    return EXIT_OK


async def _live(config: NodeConfig, tell: Printer, stay: anyio.CancelScope) -> None:
    """Run the node, with its admin server around it, for as long as it is to stay.

    Raises :class:`~laminar.errors.LaminarError` when it cannot run.
    """
    node = Node(config)
    async with AsyncExitStack() as stack:
        served = await _serve(node, stack)
        await stack.enter_async_context(node)
        cluster = config.shuffle.cluster
        at = f"{node.local_addr}" + (f" as {config.advertise}" if config.advertise else "")
        text = f"{node.id} listens at {at}, cluster {cluster!r}"
        tell(Event("listening", text, addr=config.advertise or node.local_addr))
        if served:
            tell(Event("admin", f"admin server at http://{served}/", addr=served))
        with stay:
            await _watch(node, tell)
        tell(Event("leaving", f"{node.id} says goodbye"))


async def _serve(node: Node, stack: AsyncExitStack) -> str:
    """Enter the admin server of ``node``; its address, or nothing if there is to be none.

    Before the node itself, so that nobody sees a node come and go whose admin address is taken.
    """
    listen = node.config.admin or ""
    if listen == "none":
        return ""
    from laminar.admin.server import Admin  # an HTTP server: only where one is wanted

    try:
        admin = await stack.enter_async_context(Admin(node, listen))
    except StreamBrokenError as error:
        raise StreamBrokenError(
            f"the admin server {one_line(error)}; give --admin another HOST:PORT, or none"
        ) from error
    return admin.local_addr


async def _watch(node: Node, tell: Printer) -> None:
    """Tell what happens."""
    seeks = bool(node.config.seeds)
    chronicle = Chronicle(node.id, seeks=seeks, now=anyio.current_time())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_follow, node.watch_members(), chronicle.member, tell)
        tasks.start_soon(_follow, node.sender.watch_peers(), chronicle.peer, tell)
        tasks.start_soon(_follow, node.receiver.watch_peers(), chronicle.peer, tell)
        while True:
            await anyio.sleep(LOOK_INTERVAL_S)
            _look(node, chronicle, tell)


async def _follow(
    watch: AbstractAsyncContextManager[AsyncIterator[_T]],
    note: Callable[[_T], Event | None],
    tell: Printer,
) -> None:
    async with watch as changes:
        async for change in changes:
            event = note(change)
            if event is not None:
                tell(event)


def _look(node: Node, chronicle: Chronicle, tell: Printer) -> None:
    """Tell what was refused since the last look, and whether anybody has been found."""
    statistics, now = node.statistics(), anyio.current_time()
    chronicle.keep(statistics.members)
    alone = chronicle.alone(now)
    if alone is not None:
        tell(alone)
    dropped: Mapping[str, int] = {}
    sources: Mapping[str, str] = {}
    errors: Mapping[str, int] = {}
    discovery = statistics.discovery
    if discovery is not None:
        dropped, sources = discovery.gossip.drops, discovery.seal.refused_from
        errors = discovery.network_errors
    for event in chronicle.refusals(dropped, sources, statistics.receiver.drops, errors, now):
        tell(event)
