"""Certificate files: read at once, read again when they change, and never trusted blindly."""

import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from laminar.errors import ConfigError
from laminar.net.credentials import Credentials
from laminar.testing.certificates import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.mark.parametrize("server_side", [True, False])
def test_only_tls_1_3_and_only_between_certificates(authority, server_side):
    context = Credentials(authority.certify("a")).context(server_side=server_side)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_unchanged_files_are_not_read_again(authority):
    credentials = Credentials(authority.certify("a"))
    first = credentials.context(server_side=True)
    assert credentials.context(server_side=True) is first
    assert credentials.context(server_side=False) is not first
    assert credentials.statistics().reloads == 0


def test_changed_files_are_read_again(authority):
    credentials = Credentials(authority.certify("a"))
    first = credentials.context(server_side=True)
    authority.certify("a")
    assert credentials.context(server_side=True) is not first
    assert credentials.statistics().reloads == 1


def test_half_written_files_leave_the_last_good_ones_in_force(authority):
    config = authority.certify("a")
    credentials = Credentials(config)
    good = credentials.context(server_side=True)
    whole = Path(config.certificate).read_bytes()
    Path(config.certificate).write_bytes(whole[: len(whole) // 2])
    for _ in range(3):
        assert credentials.context(server_side=True) is good
    told = credentials.statistics()
    assert (told.reloads, told.failures) == (0, 1)
    assert "cannot be used" in told.last_failure
    Path(config.certificate).unlink()
    assert credentials.context(server_side=True) is good
    assert credentials.statistics().failures == 2
    Path(config.certificate).write_bytes(whole)
    assert credentials.context(server_side=True) is not good
    told = credentials.statistics()
    assert (told.reloads, told.failures, told.last_failure) == (1, 2, None)


def test_a_certificate_that_waits_for_its_key(authority, tmp_path):
    """Two files cannot change at once: between them they do not belong together."""
    config = authority.certify("a")
    credentials = Credentials(config)
    good = credentials.context(server_side=True)
    new = authority.certify("a", file="new")
    os.replace(new.certificate, config.certificate)
    assert credentials.context(server_side=True) is good
    os.replace(new.key, config.key)
    assert credentials.context(server_side=True) is not good
    told = credentials.statistics()
    assert (told.reloads, told.failures) == (1, 1)


def garbled(config, tmp_path):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    return garbage


@pytest.mark.parametrize("field", ["certificate", "key", "ca"])
@pytest.mark.parametrize("what", ["missing", "garbage", "folder"])
def test_files_that_cannot_be_used_are_the_callers_error(authority, tmp_path, field, what):
    config = authority.certify("a")
    path = {
        "missing": tmp_path / "nowhere.pem",
        "garbage": garbled(config, tmp_path),
        "folder": tmp_path,
    }[what]
    with pytest.raises(ConfigError, match="PEM file") as caught:
        Credentials(replace(config, **{field: path}))
    assert str(path) in str(caught.value)


def test_a_key_of_another_certificate_is_refused(authority):
    mine, yours = authority.certify("a"), authority.certify("b")
    with pytest.raises(ConfigError, match="belong together"):
        Credentials(replace(mine, key=yours.key))


def test_an_encrypted_key_is_refused_and_nobody_is_asked(authority):
    config = authority.certify("a")
    key = serialization.load_pem_private_key(Path(config.key).read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    Path(config.key).write_bytes(encrypted)
    with pytest.raises(ConfigError, match="the key is encrypted"):
        Credentials(config)
