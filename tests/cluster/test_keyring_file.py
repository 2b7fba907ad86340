"""A keyring file is whole, private, and says what is wrong with it without showing a key."""

import errno
import os
import stat
from base64 import b64encode

import pytest

from laminar.cluster import keyring_file
from laminar.cluster.keyring import Keyring
from laminar.errors import ConfigError

OLD, NEW = b"o" * 32, b"n" * 48
OLD64, NEW64 = (b64encode(key).decode() for key in (OLD, NEW))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "laminar.keys"


def put(path, text, mode=0o600):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_key_of_the_file_seals(path):
    put(path, f"# for all\n\n  {OLD64}\n   # and\r\n{NEW64}\r\n")
    assert keyring_file.load(path).keys == (OLD, NEW)
    assert keyring_file.load(str(path)).keys == (OLD, NEW)


def test_what_is_saved_is_loaded(path):
    ring = Keyring([OLD, NEW])
    ring.use(ring.ids[1])
    keyring_file.save(path, ring)
    assert keyring_file.load(path).keys == (NEW, OLD)
    assert mode_of(path) == 0o600
    assert os.listdir(path.parent) == [path.name]
    keyring_file.save(path, Keyring([OLD]))
    assert keyring_file.load(path).keys == (OLD,)


def test_a_file_is_private_whatever_the_umask(path):
    before = os.umask(0)
    try:
        keyring_file.save(path, Keyring([OLD]))
        assert mode_of(path) == 0o600
        path.unlink()
        keyring_file.create(path)
        assert mode_of(path) == 0o600
    finally:
        os.umask(before)


def test_a_new_file_has_one_new_key(path, tmp_path):
    ring = keyring_file.create(path)
    assert len(ring.primary_key) == 32
    assert keyring_file.load(path).keys == ring.keys
    assert keyring_file.create(tmp_path / "other").keys != ring.keys
    with pytest.raises(ConfigError, match=r"laminar\.keys exists already"):
        keyring_file.create(path)
    assert keyring_file.load(path).keys == ring.keys


def test_a_link_stays_one(path, tmp_path):
    real = tmp_path / "secret" / "keys"
    real.parent.mkdir()
    path.symlink_to(real)
    keyring_file.save(path, Keyring([OLD]))
    assert path.is_symlink()
    assert keyring_file.load(real).keys == keyring_file.load(path).keys == (OLD,)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o777])
def test_a_file_that_others_can_use_is_refused(path, mode):
    put(path, OLD64, mode)
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600 .*laminar\.keys"):
        keyring_file.load(path)
    path.chmod(0o400)
    assert keyring_file.load(path).keys == (OLD,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no key in it"),
        ("# nothing\n", "there is no key in it"),
        (f"{OLD64}\nnot base64!\n", "line 2: a key is in base64"),
        (f"{OLD64[:-1]}\n", "line 1: a key is in base64"),
        (f"{OLD64} # mine\n", "line 1: a key is in base64"),
        ("c2hvcnQ=\n", "line 1: a key is 16 to 64 random bytes"),
        (b64encode(bytes(65)), "line 1: a key is 16 to 64"),
        (f"{OLD64}\n#\n{OLD64}\n", "line 3: this key is there twice"),
        ("".join(f"{b64encode(bytes([n]) * 32).decode()}\n" for n in range(9)), "at most 8 keys"),
        (b"\xff\xfe", "not plain text"),
        (f"{OLD64}\n" + "#" * 16384, "more than 16384 bytes"),
    ],
)
def test_what_is_no_keyring_is_told(path, text, why):
    put(path, text)
    with pytest.raises(ConfigError, match=why) as caught:
        keyring_file.load(path)
    assert str(path) in str(caught.value)
    for secret in (OLD64, OLD64[:20], "c2hvcnQ", "not base64"):
        assert secret not in str(caught.value)


def test_a_file_that_is_not_there_is_told(path, tmp_path):
    with pytest.raises(ConfigError, match=r"No such file.*laminar keys new"):
        keyring_file.load(path)
    with pytest.raises(ConfigError, match=rf"{tmp_path} is no keyring: it is a folder"):
        keyring_file.load(tmp_path)
    for write in (lambda file: keyring_file.save(file, Keyring([OLD])), keyring_file.create):
        with pytest.raises(ConfigError, match=r"cannot (save|make) the keyring .*No such file"):
            write(tmp_path / "nowhere" / "keys")


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EACCES, "Permission denied; run this as the file's owner"), (errno.EIO, r"error$")],
)
def test_a_file_that_cannot_be_read_is_told(path, number, said, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    keyring_file.create(path)
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(ConfigError, match=f"cannot read the keyring {path}: .*{said}"):
        keyring_file.load(path)


def test_a_pipe_is_not_read(path):
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="it is not a file"):
        keyring_file.load(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_file_as_it_was(path, step, monkeypatch):
    keyring_file.save(path, Keyring([OLD]))

    def fail(*arguments, **more):
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        keyring_file.save(path, Keyring([NEW]))
    monkeypatch.undo()
    assert keyring_file.load(path).keys == (OLD,)
    assert os.listdir(path.parent) == [path.name]
