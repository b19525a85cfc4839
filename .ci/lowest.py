"""Prints the lowest versions that pyproject.toml promises, as pip constraints; torch's own come from constraints.txt."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in project["dependencies"]:
    name, lowest = re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()
    if name not in ("torch", "torchvision"):
        # The last patch release of the lowest version.
        print(f"{name}=={lowest}.*")
