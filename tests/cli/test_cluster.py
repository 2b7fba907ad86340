"""The commands of a cluster's operators, as processes: nodes, and those who ask them."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from laminar.cli.signals import REPEAT_S
from laminar.cluster import keyring_file
from laminar.net.address import parse_addr
from tests.wiring import free_addr

SETTINGS = """
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
[gossip]
interval_s = 0.1
leave_timeout_s = 20.0
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="as shells on Linux do it")


def command(*arguments):
    return [sys.executable, "-m", "laminar.cli", *map(str, arguments)]


def run(*arguments):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=60, check=False
    )


class Running:
    """A node in a process of its own, and what it has told so far."""

    def __init__(self, process):
        self.process = process
        self.addr = self.until("listening")["addr"]

    def until(self, event, **fields):
        """The next event of that kind."""
        for line in self.process.stdout:
            found = json.loads(line)
            if found["event"] == event and fields.items() <= found.items():
                return found
        raise AssertionError(f"no {event}: {self.process.stderr.read()}")

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "node.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def start(settings):
    @contextmanager
    def started(node, *arguments):
        line = command("node", "--config", settings, "--id", node, "--json", *arguments)
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield Running(process)
            finally:
                process.kill()

    return started


@pytest.fixture(scope="module")
def pair(start):
    """Two nodes that know each other, and the first one's admin address."""
    with start("a") as a:
        a.admin = a.until("admin")["addr"]
        with start("b", "--seed", a.addr) as b:
            b.admin = b.until("admin")["addr"]
            b.until("joined", node="a")
            a.until("joined", node="b")
            yield a, b


# -- asking -------------------------------------------------------------------------------------


def test_members(pair):
    a, b = pair
    done = run("members", "--admin", a.admin)
    assert done.returncode == 0, done.stderr
    head, first, second = done.stdout.splitlines()[:3]
    assert head.split() == ["ID", "STATE", "ADDRESS", "SINCE", "DATA"]
    assert first.split()[:3] == ["a", "alive", a.addr]
    assert first.split()[-1] == "itself"
    assert second.split()[:3] == ["b", "alive", b.addr]


def test_members_as_json(pair):
    a, b = pair
    done = run("members", "--admin", f"http://{a.admin}/", "--json")
    found = {member["node"]: member for member in json.loads(done.stdout)}
    assert found["b"]["addr"] == b.addr
    assert found["b"]["since"].startswith("20")
    assert (found["a"]["self"], found["b"]["self"]) == (True, False)


def test_keys_and_values(pair):
    a, b = pair
    done = run("kv", "get", "b", "shuffle:addr", "--admin", a.admin)
    assert (done.returncode, done.stdout) == (0, f"{b.addr}\n")
    done = run("kv", "scan", "shuffle:", "--admin", a.admin)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows == [["a", "shuffle:addr", a.addr], ["b", "shuffle:addr", b.addr]]
    done = run("kv", "scan", "--json", "--admin", a.admin)
    assert json.loads(done.stdout)["b"]["shuffle:addr"] == b.addr
    done = run("kv", "get", "b", "nothing", "--admin", a.admin)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "laminar: node b has no key 'nothing'\n"


def test_watching_until_stopped(pair, start):
    a, _ = pair
    line = command("members", "--watch", "--json", "--admin", a.admin)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as members:
        assert json.loads(members.stdout.readline())["node"] == "a"
        with start("w", "--seed", a.addr, "--admin", "none") as w:
            w.until("joined", node="a")
            assert w.stop()[0] == 0
        states = []
        for told in members.stdout:
            found = json.loads(told)
            states += [found["state"]] if found["node"] == "w" else []
            if states[-1:] == ["left"]:
                break
        assert "dead" not in states
        members.send_signal(signal.SIGINT)
        members.communicate(timeout=30)
    assert members.returncode == 130


@linux
@pytest.mark.parametrize("line", ["members | true", "members --watch | true", "kv scan >&-"])
def test_nobody_has_to_listen(pair, line):
    laminar = shlex.join(command())
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{laminar} {line}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"LAMINAR_ADMIN": pair[0].admin},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("what", ["members", "doctor"])
def test_nobody_to_ask(what):
    addr = free_addr()
    done = run(*what.split(), "--admin", addr)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"laminar: no node's admin server answers at {addr}")
    assert done.stderr.count("\n") == 1


def test_somebody_else_to_ask(pair):
    done = run("members", "--admin", pair[0].addr)
    assert done.returncode == 1
    assert "is no Laminar node's admin server" in done.stderr
    assert done.stderr.count("\n") == 1


# -- the doctor ---------------------------------------------------------------------------------


def examine(*arguments):
    done = run("doctor", *arguments, "--json")
    found = json.loads(done.stdout) if done.stdout else {"verdicts": []}
    wrong = {(it["about"], it["what"]): it for it in found["verdicts"] if it["level"] == "wrong"}
    return done, wrong


def test_the_doctor_finds_all_well(pair, settings):
    done, wrong = examine("--config", settings, "--seed", pair[0].addr)
    assert (done.returncode, wrong) == (0, {})
    shown = run("doctor", "--config", settings, "--seed", pair[0].addr).stdout
    assert "member b\n  ok     TCP there" in shown
    assert "\nall well, after " in shown


def test_the_doctor_on_another_cluster(pair, settings):
    seed = pair[0].addr
    done, wrong = examine("--config", settings, "--seed", seed, "--cluster", "other")
    assert done.returncode == 1
    assert "cluster is not 'other'" in wrong[f"seed {seed}", "TCP"]["text"]
    told = pair[0].until("datagrams_refused")
    assert (told["reason"], "--cluster" in told["text"]) == ("cluster", True)


def test_the_doctor_on_a_seed_without_a_name_and_others(pair):
    """No --config, so that it looks for its own address by the seeds."""
    bad = "no.such.host.invalid:7946"
    good = pair[0].addr
    done, wrong = examine("--seed", bad, "--seed", good)
    assert (done.returncode, set(wrong)) == (1, {(f"seed {bad}", "name")})
    assert "member b" in {it["about"] for it in json.loads(done.stdout)["verdicts"]}


def test_the_doctor_on_seeds_that_there_is_no_way_to(pair):
    bad = ["no.such.host.invalid:7946", "255.255.255.255:7946"]
    done, wrong = examine("--seed", bad[0], "--seed", bad[1], "--timeout", "1")
    assert done.returncode == 1
    assert {(f"seed {bad[0]}", "name"), (f"seed {bad[1]}", "TCP")} <= set(wrong)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_doctor_with_the_id_of_a_node_that_runs(pair, settings, seed):
    """It says so, and that node stays where it is."""
    a, b = pair
    before = members_of(b)["a"]
    done, wrong = examine("--id", "a", "--config", settings, "--seed", pair[seed].addr)
    assert done.returncode == 1
    assert wrong["here", "id"]["advice"] == "take another --id"
    assert members_of(b)["a"] == before
    assert a.process.poll() is None


def members_of(node):
    done = run("members", "--json", "--admin", node.admin)
    return {member["node"]: member for member in json.loads(done.stdout)}


def test_the_doctor_is_told_whom_to_examine(monkeypatch):
    done = run("doctor")
    assert done.returncode == 2
    assert done.stderr.startswith("laminar: whom to examine?")


@pytest.fixture(scope="module")
def keyed(start, tmp_path_factory):
    """Two nodes with a copy of the same keyring file each."""
    folder = tmp_path_factory.mktemp("keys")
    files = [folder / "a.keys", folder / "b.keys"]
    keyring_file.save(files[1], keyring_file.create(files[0]))
    with start("a", "--keys", files[0]) as a:
        a.admin = a.until("admin")["addr"]
        with start("b", "--seed", a.addr, "--keys", files[1]) as b:
            b.until("joined", node="a")
            a.until("joined", node="b")
            yield a, files


def test_a_key_is_replaced_while_the_cluster_runs(keyed, settings, tmp_path):
    a, files = keyed
    before = keyring_file.load(files[0]).primary
    done = run("keys", "rotate", "--admin", a.admin)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("of 2 members 0 have the new key")
    (end,) = done.stdout.splitlines()
    rings = [keyring_file.load(file) for file in files]
    assert len(rings[0].ids) == 1
    assert rings[0].keys == rings[1].keys
    assert rings[0].primary != before
    assert end == f"key {rings[0].primary.hex()} is the only one of 2 members now"
    done, wrong = examine("--config", settings, "--seed", a.addr, "--keys", files[1])
    assert (done.returncode, wrong) == (0, {})


def test_the_doctor_with_another_key(keyed, settings, tmp_path):
    a, _ = keyed
    keyring_file.create(tmp_path / "other.keys")
    other = ("--config", settings, "--seed", a.addr, "--keys", tmp_path / "other.keys")
    done, wrong = examine(*other)
    assert done.returncode == 1
    assert "offers no key that is valid here" in wrong[f"seed {a.addr}", "TCP"]["text"]
    told = a.until("connections_refused")
    assert (told["reason"], "--keys" in told["text"]) == ("key", True)


def test_a_cluster_without_keys_has_none_to_replace(pair):
    done = run("keys", "rotate", "--admin", pair[0].admin)
    assert done.returncode == 1
    assert done.stderr.startswith("laminar: this cluster has no keys to change")


# -- nodes --------------------------------------------------------------------------------------


def test_coming_and_going_are_told_with_new_lives(pair, start):
    a, _ = pair
    with start("c", "--seed", a.addr, "--admin", "none") as c:
        joined = a.until("joined", node="c")
        assert joined["addr"] == c.addr
        assert c.stop() == (0, "")
    a.until("left", node="c")
    with start("c", "--seed", a.addr, "--admin", "none") as c:
        back = a.until("returned", node="c")
        assert back["restarted"]
        assert back["incarnation"] > joined["incarnation"]
        c.process.kill()
        a.until("suspected", node="c")
        a.until("died", node="c")


def test_a_node_says_that_no_seed_answers(pair, start):
    seed = pair[0].addr
    with start("x", "--seed", seed, "--cluster", "other", "--admin", "none") as x:
        assert "laminar doctor" in x.until("alone")["text"]


def test_an_id_that_is_taken_later_ends_the_node(pair, start):
    a, _ = pair
    with start("d", "--seed", a.addr) as earlier:
        admin = earlier.until("admin")["addr"]
        while rounds(admin) < 30:  # until it is settled
            pass
        with start("d", "--seed", a.addr, "--admin", "none"):
            _, errors = earlier.process.communicate(timeout=30)
    assert earlier.process.returncode == 1
    assert errors.startswith("laminar: another live node has the id 'd'")
    assert errors.count("\n") == 1


def rounds(admin):
    """How many rounds a node has gossiped, asked once a round."""
    time.sleep(0.1)
    with urllib.request.urlopen(f"http://{admin}/statistics") as answer:
        return json.load(answer)["discovery"]["gossip"]["rounds"]


def test_a_second_signal_ends_a_node_at_once(start):
    """It says goodbye to somebody who does not listen, and would wait for that."""
    with start("deaf") as deaf, start("g", "--seed", deaf.addr, "--admin", "none") as g:
        g.until("joined", node="deaf")
        deaf.process.send_signal(signal.SIGSTOP)
        g.process.send_signal(signal.SIGTERM)
        g.until("leaving")
        time.sleep(2 * REPEAT_S)  # right behind the first it would be the same wish
        assert g.stop(signal.SIGINT)[0] == 130


def test_a_taken_admin_port_names_the_flag(pair, settings):
    done = run("node", "--config", settings, "--id", "e", "--admin", pair[0].admin)
    assert (done.returncode, done.stdout) == (1, "")
    assert "give --admin another HOST:PORT, or none" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_told(pair, settings):
    taken = pair[0].addr
    done = run("node", "--config", settings, "--id", "e", "--listen", taken)
    assert done.returncode == 1
    assert str(parse_addr(taken)[1]) in done.stderr
    assert done.stderr.count("\n") == 1


@linux
def test_a_node_goes_on_when_nobody_reads_it(pair, settings):
    line = shlex.join(command("node", "--config", settings, "--id", "f", "--seed", pair[0].addr))
    with subprocess.Popen(["bash", "-c", f"{line} | head -1"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout.readline()
        pair[0].until("joined", node="f")
        found = run("members", "--json", "--admin", pair[0].admin).stdout
        assert {"f": "alive"}.items() <= {
            member["node"]: member["state"] for member in json.loads(found)
        }.items()
        subprocess.run(["pkill", "-P", str(shell.pid)], check=True)
    pair[0].until("left", node="f")


def test_a_signal_sent_twice_at_once_is_one_wish(start):
    with start("twin") as twin, start("h", "--seed", twin.addr, "--admin", "none") as h:
        h.until("joined", node="twin")
        h.process.send_signal(signal.SIGTERM)
        assert h.stop(signal.SIGTERM)[0] == 0
        twin.until("left", node="h")
