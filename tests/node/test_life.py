"""Lives, remembered from one to the next."""

import pytest

from laminar.errors import ConfigError
from laminar.node.life import Life


def test_the_next_life_is_newer_also_when_the_clock_went_back(tmp_path):
    path = tmp_path / "state"
    first = Life(path).begin(2_000_000)
    assert first == 2_000_000
    second = Life(path).begin(1_000)
    assert second > first
    third = Life(path).begin(9 * 10**18)
    assert third == 9 * 10**18


def test_what_a_life_took_meanwhile_counts(tmp_path):
    path = tmp_path / "state"
    life = Life(path)
    life.begin(1_000)
    life.note(10**15)
    life.note(5)
    assert Life(path).begin(2_000) > 10**15
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("content", [b"soon", b"-1", b"\xff", b"1" * 20, b""])
def test_another_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="state file"):
        Life(path)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_written(tmp_path):
    life = Life(tmp_path / "folder" / "state")
    with pytest.raises(ConfigError, match="cannot write"):
        life.begin(1)
