"""The fabric under everything that goes wrong at once: 2,000 seeds, each a run of its own.

``make simulate`` runs many more; ``python -m tests.simulation SEED`` repeats one.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest

from laminar.testing.faults import FAULTS
from tests.simulation.world import run_seed

SEEDS = 2000
CHUNKS = 20

FIRED_MIN = {
    "delay": 1500,
    "full_buffer": 1000,
    "reset": 600,
    "refused": 350,
    "one_sided_reset": 250,
    "slow_reader": 200,
    "one_way_partition": 200,
    "pause": 200,
    "partition": 200,
    "unanswered": 150,
    "byte_by_byte": 150,
    "half_open": 75,
    "crash": 40,
}
"""In how many of the seeds each fault bites at the least."""

_fired: Counter[str] = Counter()
_run: set[int] = set()


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_promise_is_kept(chunk):
    size = SEEDS // CHUNKS
    for seed in range(chunk * size, (chunk + 1) * size):
        _fired.update(run_seed(seed).fired.keys())
    _run.add(chunk)


@pytest.mark.slow
def test_every_fault_bites():
    if _run != set(range(CHUNKS)):
        pytest.skip("not all seeds were run")
    assert set(FIRED_MIN) == set(FAULTS)
    assert {name: _fired[name] for name in FIRED_MIN if _fired[name] < FIRED_MIN[name]} == {}


def test_a_seed_runs_the_same_way_every_time():
    for seed in range(20):
        first, second = run_seed(seed), run_seed(seed)
        assert (first.digest, first.turns, first.fired) == (
            second.digest,
            second.turns,
            second.fired,
        )


DIGESTS = """
from tests.simulation.world import run_seed
print(*(run_seed(seed).digest for seed in range(20)))
"""


def test_a_seed_runs_the_same_way_in_every_process():
    digests = set()
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(set(digests.pop().split())) == 20  # and seeds differ
