"""What is installed: from the wheel (``make test-wheel``) or from the source tree."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import laminar

DISTRIBUTION = "laminar-fabric"
ON_WHEEL = os.environ.get("LAMINAR_TEST_WHEEL") == "1"


def test_metadata():
    meta = metadata.metadata(DISTRIBUTION)
    assert meta["Version"] == laminar.__version__
    assert meta["License-Expression"] == "Apache-2.0"
    assert meta["Requires-Python"] == ">=3.11"


def test_the_command_is_installed():
    scripts = metadata.distribution(DISTRIBUTION).entry_points.select(group="console_scripts")
    assert {script.name: script.value for script in scripts} == {"laminar": "laminar.cli.main:main"}


def test_the_command_runs_from_any_folder(tmp_path):
    laminar_command = Path(sys.executable).with_name("laminar")
    done = subprocess.run(
        [laminar_command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert laminar.__version__ in done.stdout


def test_types_are_shipped():
    assert Path(laminar.__file__).with_name("py.typed").is_file()


@pytest.mark.skipif(not ON_WHEEL, reason="only `make test-wheel` has a wheel")
def test_the_wheel_is_what_is_tested():
    assert Path(laminar.__file__).is_relative_to(sys.prefix)


@pytest.mark.skipif(not ON_WHEEL, reason="only `make test-wheel` has a wheel")
def test_the_wheel_holds_the_package_and_nothing_else():
    files = metadata.files(DISTRIBUTION) or []
    outside = {
        file.parts[0]
        for file in files
        if file.parts[0] != "laminar" and not file.parts[0].endswith(".dist-info")
    }
    # The command's own script, below the environment's bin folder.
    assert outside <= {".."}
    assert any(file.name == "LICENSE" for file in files)
