"""What the documents show works, and what they point at is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import ENVIRONMENT

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def programs():
    for page in PAGES:
        for number, code in enumerate(
            re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        ):
            if "anyio.run(" in code:
                yield pytest.param(code, id=f"{page.name}-{number}")


@pytest.mark.parametrize("code", list(programs()))
def test_programs_run_as_they_stand(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target and (page.parent / target).suffix == ".md":
            assert (page.parent / target).exists(), f"{page.name} points at {target}"
