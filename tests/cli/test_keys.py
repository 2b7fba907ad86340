"""Keyring files by the command; replacing the key of a running cluster is in test_cluster.py."""

import json
import os
import stat

import pytest

from laminar.cli.keys import _progress
from laminar.cli.main import main
from laminar.cluster import keyring_file
from laminar.cluster.keyring import Keyring


def test_a_new_file_is_the_owners_only_and_never_overwrites(tmp_path, capsys):
    path = tmp_path / "laminar.keys"
    assert main(["keys", "new", str(path)]) == 0
    identity = keyring_file.load(path).primary.hex()
    assert identity in capsys.readouterr().out
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert main(["keys", "new", str(path)]) == 2
    assert keyring_file.load(path).primary.hex() == identity
    assert capsys.readouterr().err.startswith(f"laminar: {path} exists already")


def test_ids_are_shown_and_never_keys(tmp_path, capsys):
    path = tmp_path / "laminar.keys"
    ring = Keyring([bytes(32), bytes(range(32))])
    keyring_file.save(path, ring)
    first, second = (identity.hex() for identity in ring.ids)
    assert main(["keys", "show", str(path)]) == 0
    assert capsys.readouterr().out == f"{first}  seals\n{second}  opens\n"
    assert main(["keys", "show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"primary": first, "ids": [first, second]}


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("nonsense!", 0o600, "line 1"),
        ("", 0o600, "no keyring: there is no key in it; `laminar keys new FILE` makes"),
        ("# nothing\n", 0o600, "there is no key in it"),
        ("", 0o644, "chmod 600"),
    ],
)
def test_no_keyring_is_bad_usage(text, mode, said, tmp_path, capsys):
    path = tmp_path / "laminar.keys"
    path.write_text(text)
    path.chmod(mode)
    assert main(["keys", "show", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_is_no_keyring(tmp_path, capsys):
    assert main(["keys", "show", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told == f"laminar: {tmp_path} is no keyring: it is a folder; name a file in it\n"


def test_progress_names_those_who_are_waited_for():
    step = {"members": 3, "installed": 3, "using": 1, "removed": 0, "lacking": {}}
    line = "of 3 members 3 have the new key, 1 use it, 0 have removed the old ones"
    assert _progress(step) == line
    told = _progress({**step, "lacking": {"b": "it is on the way (alive)", "c": "no\x1b room"}})
    assert told == f"{line}; waiting for b: it is on the way (alive), c: no\\x1b room"
    many = _progress({**step, "lacking": {f"n{number}": "late" for number in range(11)}})
    assert many.endswith("n9: late, and others")
