"""Each example runs as a newcomer would run it, and prints what its page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import laminar

# The examples import what the tests import, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(laminar.__file__).parent.parent)}
EXAMPLES = Path(__file__).parent.parent / "examples"

PRINTS = {
    "two_nodes.py": r"""
lima has all orders of \w+: \d+ in total
(?s:.)*
""",
    "discovery.py": r"""
bob is up
  bob got 'hello' from alice
bob restarted on another port
alice hears: peer bob restarted: what was sent to it before may be lost
  bob got 'hello again' from alice
""",
    "cluster.py": r"""
lima gets words from all
oslo gets words from all
rome gets words from all
tokyo gets words from all
tokyo was killed, and starts again
lima hears: peer tokyo restarted
oslo hears: peer tokyo restarted
rome hears: peer tokyo restarted
lima gets words from all
oslo gets words from all
rome gets words from all
tokyo gets words from all
""",
    "barriers.py": r"""
checkpoint 1: {'swift': 10, 'steady': 10}
  nothing below 10 comes from anybody any more
checkpoint 2: {'swift': 20, 'steady': 20}
  nothing below 20 comes from anybody any more
checkpoint 3: {'swift': 30, 'steady': 30}
  nothing below 30 comes from anybody any more
3 checkpoints, none with a row too many or too few
""",
    "running_count.py": r"""
25 snapshots of 4 workers, each exactly the lines before it
6900 words in the end, 2706 of them 'the'
""",
    "hash_join.py": r"""
lima: \d+ orders of \d+ customers
oslo: \d+ orders of \d+ customers
tokyo: \d+ orders of \d+ customers
the join is complete and right
""",
    "polars_duckdb.py": r"""
AA: 2 flights, 7\.0 minutes late on average
DL: 1 flights, 40\.0 minutes late on average
UA: 3 flights, 3\.0 minutes late on average
""",
}


def output_of(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_prints_what_it_says(name):
    assert re.fullmatch(PRINTS[name].lstrip("\n"), output_of(name))


def test_each_name_of_the_two_nodes_is_on_one_node_with_all_its_orders():
    found = re.findall(r"(\w+) has all orders of (\w+): (\d+)", output_of("two_nodes.py"))
    assert {node for node, _, _ in found} == {"lima", "tokyo"}
    assert sorted((name, int(total)) for _, name, total in found) == [
        ("ann", 53),
        ("bob", 21),
        ("cho", 34),
        ("dee", 2),
    ]
