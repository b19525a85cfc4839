"""Whether a pipeline of diffusers takes the arguments that a recipe gives its call, before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from ..errors import UserError

OURS = {"prompt", "prompt_embeds", "prompt_attention_mask", "latents", "generator", "num_videos_per_prompt", "output_type",
        "return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs"}  # fmt: skip
"""Arguments that `DiffusersVideoModel` gives, or whose results it could not read."""


def check_call(pipeline: type, call: Mapping[str, Any], field: str) -> None:
    """Checks the names of a call's arguments.

    Args:
        pipeline: The pipeline's class.
        call: The arguments.
        field: Field of the recipe, for the message.

    Raises:
        UserError: If the pipeline knows one of them not, or it is not the recipe's to give.
    """
    known = [name for name in inspect.signature(pipeline.__call__).parameters if name not in OURS and name != "self"]
    for name in call:
        if name in OURS:
            raise UserError(
                f"`{field}` must leave to the toolkit what each video needs of its own. Got {name!r}; leave it out."
            )
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            raise UserError(
                f"`{field}` must name arguments that {pipeline.__name__} takes. Got {name!r}; "
                + (f"did you mean {near[0]}?" if near else f"take some of {', '.join(known)}.")
            )
