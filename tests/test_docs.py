"""The documentation says what the code does: diagram, named tests, commands and links."""

import re
from pathlib import Path

import pytest

from hardware.runtime.control.supervisor import diagram
from pipelines.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_states_in_the_manual_are_those_of_the_supervisor() -> None:
    assert diagram() in (ROOT / "docs" / "safety.md").read_text()


def test_every_test_named_as_proof_exists() -> None:
    text = (ROOT / "docs" / "safety.md").read_text()
    named = re.findall(r"`(?:[\w/]+\.py(?:::))?(test_\w+)`", text)
    assert len(named) > 15
    defined = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
    assert not set(named) - defined


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_commands_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for name in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?sim2real (?!-)([\w-]+)", text, re.MULTILINE):
        assert name in COMMANDS, f"{page.name} names the command {name}"
