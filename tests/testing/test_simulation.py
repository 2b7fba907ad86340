"""The runner: the same seed is the same run, time is free, and nothing hangs unseen."""

import subprocess
import sys

import anyio
import pytest
from anyio.lowlevel import checkpoint

from laminar.testing.simulation import SimulationHungError, simulate


async def race(simulation):
    """Tasks whose order is nobody's but the scheduler's."""
    order = []

    async def runner(number):
        for _ in range(5):
            await checkpoint()
            order.append(number)
            simulation.trace.record("ran", number)
        await anyio.sleep(simulation.rng.random())
        simulation.trace.record("slept", number)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(runner, number)
    return order


def test_equal_seeds_are_equal_runs_and_others_are_not():
    first, second, other = simulate(7, race), simulate(7, race), simulate(8, race)
    assert first == second
    assert first.result != other.result
    assert first.digest != other.digest


def test_time_costs_nothing():
    async def scenario(simulation):
        await anyio.sleep(80_000)
        return anyio.current_time()

    outcome = simulate(1, scenario, limit_s=90_000)
    assert outcome.result == outcome.virtual_s == 80_000


@pytest.mark.parametrize(
    "scenario",
    [
        lambda simulation: anyio.sleep_forever(),
        lambda simulation: anyio.Event().wait(),
        lambda simulation: _spin(),
    ],
    ids=["sleeps", "waits", "turns in circles"],
)
def test_a_hang_is_told_with_its_seed(scenario):
    with pytest.raises(SimulationHungError) as caught:
        simulate(42, scenario, turns_max=1000)
    assert "seed 42" in caught.value.__notes__[0]


async def _spin():
    while True:
        await checkpoint()


def test_an_error_tells_the_seed_and_what_came_before():
    async def scenario(simulation):
        simulation.trace.record("the", "last", "words")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        simulate(42, scenario)
    assert "seed 42" in caught.value.__notes__[0]
    assert "the last words" in caught.value.__notes__[1]


def test_the_scheduler_is_left_as_it_was():
    from trio._core import _run

    before = (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate())
    simulate(1, race)
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()) == before


WITHOUT_TRIO = """
import sys
sys.modules["trio"] = None
from laminar.errors import ConfigError
from laminar.testing.simulation import simulate
try:
    simulate(1, None)
except ConfigError as error:
    print(error)
"""


def test_without_trio_it_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRIO], capture_output=True, text=True, check=True
    )
    assert "laminar-fabric[testing]" in done.stdout
