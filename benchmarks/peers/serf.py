"""HashiCorp's serf, as Debian packages it: how to start, change and hear an agent."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from benchmarks.process import PeerMissing
from benchmarks.sightings import Saw

RPC_PORTS_ABOVE = 1000
"""Nobody connects to the RPC port of an agent, but it insists on one."""
EVENT = re.compile(rb"\[INFO\] serf: EventMember(Join|Failed|Update): (\S+)")
SAW = {b"Join": Saw.ALIVE, b"Failed": Saw.DEAD, b"Update": Saw.CHANGED}


class Serf:
    """Starts, changes and hears agents of serf.

    They are heard by their log, which says at once what handlers of events are told a second or
    more later, and changed by their configuration file and SIGHUP: neither takes any traffic.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder
        self._key = key
        self._binary = shutil.which("serf")
        if self._binary is None:
            raise PeerMissing("the command serf is not installed (Debian's package serf)")

    def command(self, node: str, listen: str, seed: str | None) -> list[str]:
        """What starts an agent."""
        host, port = listen.rsplit(":", 1)
        self._write_tags(node, "")
        return [
            *(self._binary or "serf", "agent", f"-node={node}", f"-bind={listen}"),
            f"-rpc-addr={host}:{int(port) + RPC_PORTS_ABOVE}",
            f"-encrypt={base64.b64encode(self._key).decode()}",
            f"-config-file={self._config(node)}",
            *([f"-join={seed}"] if seed else []),
        ]

    def change(self, node: str, value: str, pid: int, stdin: int) -> None:
        """Give the agent's tag a new value."""
        self._write_tags(node, value)
        os.kill(pid, signal.SIGHUP)

    def hear(self, line: bytes) -> tuple[str, Saw, str | None] | None:
        """Who was seen how, if the line says that. The log does not tell values."""
        found = EVENT.search(line)
        return (found[2].decode(), SAW[found[1]], None) if found else None

    def _config(self, node: str) -> Path:
        return self._folder / f"{node}.json"

    def _write_tags(self, node: str, value: str) -> None:
        self._config(node).write_text(json.dumps({"tags": {"value": value}}))


def version() -> str:
    """The version of the command, as it says itself."""
    binary = shutil.which("serf")
    if binary is None:
        return "not installed"
    said = subprocess.run([binary, "version"], capture_output=True, check=True, text=True)
    return said.stdout.splitlines()[0].removeprefix("Serf v")
