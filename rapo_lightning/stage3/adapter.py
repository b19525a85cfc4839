"""The adapter that is trained, and the frozen base under it, as the recipe says."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, get_peft_model

from ..errors import UserError
from ..recipe import Stage3


def trainable(base: Any, stage3: Stage3) -> Any:
    """The base, frozen, under a fresh adapter in float32; torch's seed decides how it starts.

    Args:
        base: A causal language model of transformers.
        stage3: Settings.

    Returns:
        A `peft.PeftModel`.

    Raises:
        UserError: If the model has none of the layers that `stage3.lora.target_modules` names.
    """
    base.config.use_cache = False
    lora = stage3.lora
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(base, config)
    except ValueError as error:
        raise UserError(
            f"`stage3.lora.target_modules` must name layers of the language model. Got {lora.target_modules}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
