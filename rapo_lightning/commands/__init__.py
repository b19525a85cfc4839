"""One thin function per command: it wires a recipe to the stages. Its signature is the command line.

Positional-only parameters are positional arguments, keyword-only ones are options, and a first parameter `recipe` makes
the command take a recipe. Heavy rooms are imported inside, so that a mistyped option does not wait for torch.
"""

from collections.abc import Callable

from .align import align
from .checkpoints import fetch, list_checkpoints, verify
from .collect import collect
from .discriminator import discriminator
from .evaluate import evaluate
from .export import export
from .finetune import finetune
from .graph import add, build, export_graph, extract, import_graph, info
from .import_log import import_log
from .loop import loop
from .pairs import pairs
from .quickstart import quickstart
from .refine import refine
from .report import report
from .score import score
from .validate import validate

COMMANDS: dict[str, Callable[..., object]] = {
    "quickstart": quickstart,
    "align": align,
    "collect": collect,
    "finetune": finetune,
    "loop": loop,
    "pairs": pairs,
    "discriminator": discriminator,
    "refine": refine,
    "evaluate": evaluate,
    "score": score,
    "validate": validate,
    "report": report,
    "import": import_log,
    "export": export,
}
"""Commands by name."""
GROUPS: dict[str, dict[str, Callable[..., object]]] = {
    "graph": {
        "build": build,
        "add": add,
        "info": info,
        "import": import_graph,
        "export": export_graph,
        "extract": extract,
    },
    "ckpt": {"list": list_checkpoints, "fetch": fetch, "verify": verify},
}
"""Commands of a group, by its name and theirs."""
DEFAULT_RECIPES = {"quickstart": "lab-quickstart", "align": "lab", "collect": "lab"}
"""Recipe of a command that is given none."""

__all__ = ["COMMANDS", "DEFAULT_RECIPES", "GROUPS"]
