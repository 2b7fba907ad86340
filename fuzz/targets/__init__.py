"""What is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

NAMES = ("frames", "control", "inbound", "arrow", "seal", "gossip")


class Target(NamedTuple):
    """One thing that reads a stranger's bytes."""

    name: str
    check: Callable[[bytes], None]
    """Raises on a broken invariant; what the bytes may rightly cause, it swallows."""
    seeds: Callable[[], Iterator[tuple[str, bytes]]]
    """Well-formed inputs, by file name."""


def target(name: str) -> Target:
    """The target of that name."""
    module: ModuleType = import_module(f"fuzz.targets.{name}")
    return Target(name, module.check, module.seeds)
