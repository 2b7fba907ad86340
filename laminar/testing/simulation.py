"""Runs a program in virtual time, the same way every time.

::

    async def scenario(simulation: Simulation) -> None:
        a, b = simulation.network.host("a"), simulation.network.host("b")
        ...

    simulate(1234, scenario)

The event loop is trio's, on its mock clock: when every task waits, time jumps to the next
deadline, so an hour takes as long as its events do. The order in which runnable tasks run is
drawn from the seed; so is all chance of the network. What is not drawn from
:attr:`Simulation.rng` (threads, real sockets, ``time``, iterating sets) is not repeated.

trio is an optional dependency: ``pip install 'laminar-fabric[testing]'``.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

import anyio

from laminar.errors import ConfigError
from laminar.testing.faults import NO_FAULTS, FaultCounts, Faults
from laminar.testing.network import SimulatedNetwork
from laminar.testing.trace import Trace

Result = TypeVar("Result")

LIMIT_S = 3600.0
"""Longest virtual time of a simulation, unless told otherwise."""

TURNS_MAX = 200_000
"""Most turns of the event loop: one that turns in circles hangs too, in real time."""

TRACE_LINES = 40
"""How much of the trace an error shows."""


class SimulationHungError(AssertionError):
    """The scenario did not come to an end: everything waits, or it turns in circles."""


class Simulation:
    """What a scenario is given: chance, a network and a trace, all from one seed."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.trace = Trace(anyio.current_time)
        self.network = SimulatedNetwork(self.rng, faults, trace=self.trace)


Scenario = Callable[[Simulation], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """How a simulation went."""

    result: Result
    """What the scenario returned."""
    digest: str
    """Hash of the trace; equal for equal seeds, in every process."""
    fired: FaultCounts
    """How often each fault bit."""
    turns: int
    """Turns of the event loop."""
    virtual_s: float
    """How long it took on the virtual clock."""


def simulate(
    seed: int,
    scenario: Scenario[Result],
    *,
    faults: Faults = NO_FAULTS,
    limit_s: float = LIMIT_S,
    turns_max: int = TURNS_MAX,
) -> Outcome[Result]:
    """Run ``scenario`` in virtual time.

    Raises what the scenario raises, with the seed and the end of the trace as a note,
    :class:`SimulationHungError` when it takes more than ``limit_s`` virtual seconds or
    ``turns_max`` turns of the event loop, and :class:`~laminar.errors.ConfigError` when trio
    is not installed. Not to be called from within an event loop.
    """
    trio, run_module = _load_trio()
    turns = _Turns(turns_max)
    simulation: list[Simulation] = []

    async def run() -> Outcome[Result]:
        simulation.append(Simulation(seed, faults))
        with anyio.CancelScope(deadline=limit_s) as scope:
            turns.scope = scope
            result = await scenario(simulation[0])
            return Outcome(
                result=result,
                digest=simulation[0].trace.digest(),
                fired=simulation[0].network.fired,
                turns=turns.count,
                virtual_s=anyio.current_time(),
            )
        raise SimulationHungError(
            f"the scenario did not end within {limit_s:g} virtual seconds "
            f"and {turns_max} turns of the event loop"
        )

    clock = trio.testing.MockClock(autojump_threshold=0)
    options: dict[str, Any] = {"clock": clock, "instruments": [turns]}
    try:
        with _scheduling_from(seed, run_module):
            return anyio.run(run, backend="trio", backend_options=options)
    except BaseException as error:
        error.add_note(f"in the simulation of seed {seed}, which repeats it exactly")
        if simulation:
            ending = simulation[0].trace.lines(TRACE_LINES)
            error.add_note("the last events:\n" + "\n".join(ending))
        raise


class _Turns:
    """A trio instrument: counts turns of the event loop, and ends it after too many."""

    def __init__(self, turns_max: int) -> None:
        self.count = 0
        self.scope: anyio.CancelScope | None = None
        self._turns_max = turns_max

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1
        if self.count == self._turns_max and self.scope is not None:
            self.scope.cancel()


def _load_trio() -> tuple[ModuleType, ModuleType]:
    try:
        import trio
        import trio.testing
        from trio._core import _run
    except ImportError as error:
        raise ConfigError(
            "a simulation runs on trio, which is not installed: "
            "pip install 'laminar-fabric[testing]'"
        ) from error
    # There is no public way to repeat trio's scheduling; this is the one Hypothesis uses.
    if not (hasattr(_run, "_r") and hasattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")):
        raise ConfigError(
            f"trio {trio.__version__} does not let its scheduling be repeated; take another version"
        )
    return trio, _run


@contextmanager
def _scheduling_from(seed: int, run_module: Any) -> Iterator[None]:
    """Let trio draw the order of its tasks from ``seed``."""
    allowed, state = run_module._ALLOW_DETERMINISTIC_SCHEDULING, run_module._r.getstate()
    run_module._ALLOW_DETERMINISTIC_SCHEDULING = True
    run_module._r.seed(seed)
    try:
        yield
    finally:
        run_module._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        run_module._r.setstate(state)
