"""What the fuzzer found goes through its targets again, and so does some damage at random."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fuzz.broken import Broken
from fuzz.minimise import dies, minimise
from fuzz.record import Record
from fuzz.replay import inputs, mutants
from fuzz.targets import NAMES, target
from fuzz.targets.arrow import ENTRY, LIMIT_BYTES
from fuzz.targets.control import PAIRS
from laminar.cluster.amplification import AddressProof
from laminar.cluster.gossip import core as gossip_core
from laminar.cluster.gossip.codec import decode
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.messages import LaneDelta
from laminar.cluster.gossip.view import View
from laminar.cluster.replay import ReplayWindow
from laminar.cluster.seal import DatagramSealer
from laminar.errors import ProtocolError
from laminar.shuffle import control, frames, inbound, window
from laminar.shuffle.arrow import BatchDecoder

CORPUS_FILES_MAX = 100
CORPUS_FILE_BYTES_MAX = 4096
PYTHON_ONLY = [name for name in NAMES if name != "arrow"]


@pytest.mark.parametrize("name", PYTHON_ONLY)
def test_the_corpus_and_its_mutants_break_nothing(name):
    check = target(name).check
    for _, data in (*inputs(name), *mutants(name)):
        check(data)


def test_the_arrow_corpus_and_its_mutants_break_nothing():
    """In a process of its own: pyarrow is native code."""
    command = [sys.executable, "-m", "fuzz.replay", "arrow"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1]}: {done.stderr}"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("found-month-interval", "Python cannot read a column of type month_interval"),
        ("found-name-not-utf8", "codec can't decode"),
        ("found-nested-name-not-utf8", "codec can't decode"),
        ("found-negative-rows", "a batch of -1 rows"),
    ],
)
def test_what_pyarrow_lets_through_and_nobody_can_read_is_refused(file, why):
    body = dict(inputs("arrow"))[file][ENTRY.size :]
    with pytest.raises(ProtocolError, match=why):
        BatchDecoder(LIMIT_BYTES, validate_full=True).decode(body, 0, starts_stream=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_is_small_and_has_the_seeds(name):
    kept = inputs(name)
    assert len(kept) <= CORPUS_FILES_MAX
    assert max(len(data) for _, data in kept) <= CORPUS_FILE_BYTES_MAX
    assert {file for file, _ in target(name).seeds()} <= {file for file, _ in kept}


def test_every_decoder_of_control_bodies_is_fuzzed():
    decoders = {call for name, call in vars(control).items() if name.startswith("decode_")}
    assert decoders <= {decode for decode, _ in PAIRS}


def test_mutants_are_the_same_every_time():
    assert list(mutants("frames", 50)) == list(mutants("frames", 50))
    assert list(mutants("frames", 50)) != list(mutants("frames", 50, seed=8))


class TestPlantedBugs:
    """The corpus alone finds what it is there to find."""

    def broken(self, name):
        def replay():
            for _, data in inputs(name):
                target(name).check(data)

        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the bug leads to
            replay()
        return caught.value

    def test_a_body_cut_short(self, monkeypatch):
        whole = frames.FrameDecoder._received_body

        def shorter(decoder, partial, count):
            found = whole(decoder, partial, count)
            return [frame._replace(body=frame.body_bytes()[:-1]) for frame in found]

        monkeypatch.setattr(frames.FrameDecoder, "_received_body", shorter)
        assert isinstance(self.broken("frames"), Broken)

    def test_no_limit_of_frames(self, monkeypatch):
        monkeypatch.setattr(frames.FrameDecoder, "_refusal", lambda decoder, kind, length: None)
        self.broken("frames")

    def test_an_unchecked_field(self, monkeypatch):
        monkeypatch.setattr(control, "_unsigned", lambda fields, key, minimum=0: fields[key])
        assert isinstance(self.broken("control"), KeyError)

    def test_duplicates_let_through(self, monkeypatch):
        receive = window.ReceiveWindow.receive
        monkeypatch.setattr(
            window.ReceiveWindow,
            "receive",
            lambda self, sequence, charge: receive(self, sequence, charge) or True,
        )
        assert isinstance(self.broken("inbound"), Broken)

    def test_a_window_that_bounds_nothing(self, monkeypatch):
        monkeypatch.setattr(window.ReceiveWindow, "check_room", lambda window, charge: None)
        assert isinstance(self.broken("inbound"), Broken)

    def test_frames_behind_the_end(self, monkeypatch):
        on_frames = inbound.InboundSession.on_frames

        def forgetful(session, arrived):
            for channel in session.channels.values():
                channel.ended = False
            return on_frames(session, arrived)

        monkeypatch.setattr(inbound.InboundSession, "on_frames", forgetful)
        assert isinstance(self.broken("inbound"), Broken)

    def test_a_replayed_datagram_opens_again(self, monkeypatch):
        monkeypatch.setattr(ReplayWindow, "see", lambda window, number: "new")
        assert isinstance(self.broken("seal"), Broken)

    def test_a_refused_datagram_leaves_a_trace(self, monkeypatch):
        opened = DatagramSealer._decrypt

        def remember(sealer, identity, life, number, *rest):
            sealer._windows.put((life, "a"), ReplayWindow(8), 0.0)
            return opened(sealer, identity, life, number, *rest)

        monkeypatch.setattr(DatagramSealer, "_decrypt", remember)
        assert "changed something" in str(self.broken("seal"))

    def test_a_large_answer_to_a_stranger(self, monkeypatch):
        monkeypatch.setattr(AddressProof, "allowed_bytes", lambda proof, source, now: sys.maxsize)
        assert "unproven address" in str(self.broken("gossip"))

    def test_any_cookie_proves_an_address(self, monkeypatch):
        def prove(proof, source, cookie, now):
            proof.on_proven(source, now)

        monkeypatch.setattr(AddressProof, "prove", prove)
        assert "has proven nothing" in str(self.broken("gossip"))

    def test_a_life_that_nobody_can_outlive(self, monkeypatch):
        monkeypatch.setattr(View, "believable", lambda *args: True)
        assert "nobody can read" in str(self.broken("gossip"))

    def test_a_slot_without_limits(self, monkeypatch):
        monkeypatch.setattr(LaneDelta, "size_bytes", 0)
        assert "a large slot" in str(self.broken("gossip"))

    def test_others_write_to_a_nodes_own_slot(self, monkeypatch):
        take = View.take

        def forge(view, delta, now, listened):
            own, view.own = view.own, None
            take(view, delta, now, listened)
            view.own = own

        monkeypatch.setattr(View, "take", forge)
        assert "own keys" in str(self.broken("gossip"))

    def test_a_refusal_that_nobody_counts(self, monkeypatch):
        on_datagram = GossipCore.on_datagram

        def silently(node, source, datagram, now, rng):
            answer = on_datagram(node, source, datagram, now, rng)
            del node._view.drops["malformed"]
            return answer

        monkeypatch.setattr(GossipCore, "on_datagram", silently)
        assert "malformed was counted as {}" in str(self.broken("gossip"))

    def test_a_member_who_speaks_as_another(self, monkeypatch):
        def believing(payload):
            message = decode(payload)
            if message.digests[0].node != "me":
                message.digests[0] = message.digests[0]._replace(node="c")
            return message

        monkeypatch.setattr(gossip_core, "decode", believing)
        assert "sender" in str(self.broken("gossip"))


class TestMinimise:
    @staticmethod
    def fails_on_xy(data):
        if b"x" in data and b"y" in data:
            raise ProtocolError("test", "found")

    def test_leaves_what_matters(self):
        assert minimise(self.fails_on_xy, b"abcxdefghyij", seconds_max=20) == b"xy"

    def test_what_fails_only_now_and_then_stays(self):
        assert minimise(self.fails_on_xy, b"abc", seconds_max=20) == b"abc"

    def test_a_dead_process_is_told_from_an_error(self):
        def crash(data):
            import ctypes

            ctypes.string_at(0)

        assert dies(lambda data: None, b"") == 0
        assert dies(self.fails_on_xy, b"xy") != dies(crash, b"") != 0


def test_a_record_adds_up_over_crashes():
    log = [
        "#2\tINITED cov: 10 ft: 12 corp: 1/1b exec/s: 0 rss: 30Mb",
        "#9\tNEW    cov: 14 ft: 20 corp: 2/2b",
        "stat::number_of_executed_units: 100",
    ]
    record = Record()
    record.add(log)
    record.add([*log, "#11\tDONE   cov: 16 ft: 20 corp: 2/2b"])
    assert (record.runs, record.coverage, record.new_coverage) == (200, 16, 6)
