from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from rapo_lightning.commands import COMMANDS, GROUPS
from tests.helpers import ROOT

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_marked_commands_do_all_the_set_up(name: str) -> None:
    shown = subprocess.run(
        [sys.executable, ".ci/readme_command.py", name], cwd=ROOT, capture_output=True, text=True, check=True
    )
    command = shown.stdout.strip()
    assert command.startswith("python3 -m venv .venv && ")
    assert command.endswith({"quickstart": "rapo-lightning quickstart", "tests": "pytest"}[name])


def test_every_command_named_in_the_readme_exists() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    named = set()
    for line in "\n".join(blocks).splitlines():
        words = shlex.split(line.split("#")[0])
        for index, word in enumerate(words[:-1]):
            if word.endswith("rapo-lightning") or word == "rapo_lightning":
                named.add(words[index + 1])
    assert {"collect", "finetune", "evaluate"} <= named
    assert named <= {*COMMANDS, *GROUPS}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
