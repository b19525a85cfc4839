"""Prints a marked command block of the README, so that CI and tests run what users read."""

import re
import sys
from pathlib import Path

readme = Path(__file__).parent.parent / "README.md"
match = re.search(rf"<!-- {sys.argv[1]} -->\n```bash\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
if match is None:
    sys.exit(f"README.md has no command block marked {sys.argv[1]!r}.")
print(match.group(1).strip())
