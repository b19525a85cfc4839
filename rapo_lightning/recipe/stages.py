"""The recipe's sections for stages 1 and 2, and the parts that all share; see `recipe` for the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from ..data.ranking import Ranking
from ..data.stopping import Stop
from ..prompting.chat import Sampling


class Component(TypedDict, total=False):
    """A class named in a recipe, with the arguments of its constructor; empty where none is named.

    The default must stay empty: jsonargparse imports the class when one `class_path` replaces another, which would
    happen before the allowlist is looked at.
    """

    class_path: str
    init_args: dict[str, Any]


@dataclass
class Stage1:
    """Retrieval-augmented prompt optimization (RAPO); the graph is the top-level `graph`."""

    place_num: int = 3
    """Places retrieved per prompt (the authors' script)."""
    verb_num: int = 5
    """Modifiers of each kind taken from one place, the nearest (the authors' script draws that many at random)."""
    topk_num: int = 5
    """Modifiers of each kind kept per prompt, over all its places (the authors' script)."""
    threshold: float = 0.6
    """Least cosine of prompt and modifier for the modifier to be merged (the authors' script)."""
    exclusive: str = ""
    """Text file with groups of words that exclude each other (`red | blue | green`), by which contradictions are found
    (ours); empty takes the shipped one."""
    merge: Sampling = field(default_factory=lambda: Sampling(temperature=0.0, max_new_tokens=96))
    """How the language model merges a modifier into the prompt (ours: greedy)."""
    rewriter: str = ""
    """Folder of the fine-tuned rewriter (sentence refactoring); empty leaves that branch out."""
    carry_over: bool = False
    """Whether the request is put at the caption's end where it has words that the rewriter was never trained on and that
    the caption lacks (ours): what it does not know it can only guess."""
    examples: str = ""
    """CSV with the columns `prompt`, `critique`, `caption` whose rewrites the instruction branch shows (the authors show
    nine fixed ones); empty shows none."""
    examples_per_prompt: int = 5
    """How many of the examples nearest to the prompt are shown (ours)."""
    instruct: Sampling = field(default_factory=lambda: Sampling(temperature=0.0, max_new_tokens=96))
    """How the frozen language model rewrites by instruction (ours: greedy)."""
    instruct_words: int = 30
    """Longest rewrite by instruction in words (the authors' script)."""
    discriminator: str = ""
    """Folder of the discriminator that chooses between the branches and the original; empty takes the first branch
    there is, refactoring before instruction."""
    faithfulness: float = 0.3
    """Least cosine of request and branch for the branch to be chosen (ours)."""
    extractor: Component = field(default_factory=Component)
    """What reads places and modifiers off captions in `graph extract`."""
    degrader: Component = field(default_factory=Component)
    """What turns captions into requests in `pairs` (reverse construction)."""
    captions: str = ""
    """Training captions of the video model, a txt file with one a line, for `graph extract` and `pairs`."""
    degradations: int = 3
    """Requests made of each caption in `pairs` (ours; the paper has about 86,000 pairs and does not say)."""
    batch_size: int = 256
    """Prompts that go through stage 1 together."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        least = min(
            self.place_num, self.verb_num, self.topk_num, self.batch_size, self.instruct_words, self.degradations
        )
        if least < 1 or not -1 <= self.threshold <= 1 or self.examples_per_prompt < 0:
            raise ValueError(
                "`stage1` needs place_num, verb_num, topk_num, batch_size, instruct_words and degradations >= 1, "
                f"examples_per_prompt >= 0 and a threshold in -1..1. Got {self.place_num}, {self.verb_num}, "
                f"{self.topk_num}, {self.batch_size}, {self.instruct_words}, {self.degradations}, "
                f"{self.examples_per_prompt} and {self.threshold}."
            )


@dataclass
class Draft:
    """Rounds whose videos are made cheaper (ours; the paper makes all alike). By default none.

    Then comes a round in full, from the prompt of the best draft; later ones follow as always. A draft ends no trajectory.
    """

    rounds: int = 0
    """How many rounds, the first ones, are drafts."""
    call: dict[str, Any] = field(default_factory=dict)
    """Arguments of the video model's call that replace the recipe's in a draft: fewer `num_inference_steps`, a smaller size."""

    def __post_init__(self) -> None:
        """Checks that there is something to make cheaper."""
        if self.rounds < 0 or bool(self.rounds) != bool(self.call):
            raise ValueError(
                "`stage2.draft` needs rounds >= 1 and a `call` with what is cheaper in them, or neither. Got "
                f"rounds={self.rounds}, call={self.call}; name both, or leave it out."
            )


@dataclass
class Stage2:
    """The closed loop, sample-specific prompt optimization (SSPO)."""

    start: Literal["prompt", "stage1"] = "prompt"
    """What round 0 is made from: the user's prompt, or what stage 1 makes of it (paper)."""
    rounds: int = 5
    """Most videos per prompt, the first from the prompt as it came (paper: rounds 0 to 4); see `stop`."""
    verifiers: list[Component] = field(default_factory=list)
    """What scores a video; each gives one `score_<name>` column (the paper does not name its verifiers)."""
    ranking: Ranking = field(default_factory=Ranking)
    """How the best round is found, here, for the refiner's targets and in the gallery."""
    stop: Stop = field(default_factory=Stop)
    """When a prompt's trajectory ends before `rounds`; by default never (paper)."""
    draft: Draft = field(default_factory=Draft)
    """Rounds that are made cheaper, before the best of their prompts is made in full; by default none (paper)."""
    rewriter: str = ""
    """Folder of a fine-tuned rewriter that reads the request with what was tried and seen (`prompting/revision.py`, ours); empty
    asks the language model itself, with examples (paper). `memory` is then how many attempts it is shown, the best last."""
    request: Literal["user", "judge"] = "user"
    """Whose words the rewriter gets the request in: the user's (paper), or the judge's (ours), where it restates a request before it
    compares; those it also describes videos with, and a refiner has seen them in its pairs in hindsight."""
    candidates: int = 4
    """Rewrites sampled per prompt and round, of which one is generated (ours)."""
    style_weight: float = 0.0
    """Weight of the share of a candidate's words that the example captions use, beside its similarity to the request, when one
    is chosen (ours). 0 looks at similarity alone: only where the examples cover the whole vocabulary of the captions, as in
    the lab, does it not prefer their words to the user's."""
    examples: str = ""
    """CSV with the columns `prompt`, `critique`, `caption`: rewrites shown to the language model (ours); empty shows
    none."""
    examples_per_prompt: int = 5
    """How many of the examples nearest to the prompt are shown (ours)."""
    memory: int = 1
    """Earlier rewrites that the instruction shows with their scores, best first (paper: all); see `memory_from`."""
    memory_from: Literal["best", "last", "original"] = "best"
    """What the next prompt is made from beside the request (ours): the `memory` best rounds (historical backtracking) and the
    critiques of all; the `memory` last ones and their critiques; or, as in the authors' script, the request anew, with the
    critique of the last video alone."""
    memory_tokens: int = 0
    """Most tokens of that history, by the rewriter's own tokenizer (ours); 0 sets no limit. The worst rounds are dropped first
    (with `last`, the oldest), of equal ones the oldest; the last critique stays, and one attempt for a fine-tuned rewriter."""
    physics: Literal["off", "log", "rewrite"] = "rewrite"
    """Whether the language model checks the optical flow against the physical law in a phase of its own, and whether
    the rewrite instruction shows its answer (`rewrite`, the authors' script) or the row alone (`log`)."""
    physics_tokens: int = 48
    """Longest physics check in tokens (ours)."""
    flow_seconds: float = 0.5
    """Time between two frames of the optical flow (the authors' script)."""
    max_words: int = 120
    """Longest rewrite in words (PhyT2V's limit, the authors' script too); the model is asked once more for a shorter one, which
    is cut at a sentence's end if it is too long again. The column `shortened` says so."""
    sampling: Sampling = field(default_factory=Sampling)
    """How rewrites and physics checks are sampled."""
    batch_size: int = 32
    """Prompts that go through the loop's phases together."""
    save_videos: bool = True
    """Whether to write an mp4 of every round."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if self.draft.rounds and self.draft.rounds >= self.rounds:
            raise ValueError(
                f"`stage2.draft.rounds` must be less than `stage2.rounds`, so that one is made in full. Got {self.draft.rounds} of "
                f"{self.rounds}."
            )
        if not self.flow_seconds > 0:
            raise ValueError(f"`stage2.flow_seconds` must be more than 0. Got {self.flow_seconds}.")
        least = {"rounds": 1, "candidates": 1, "batch_size": 1, "max_words": 1}
        least |= {"examples_per_prompt": 0, "memory": 0, "memory_tokens": 0}
        low = {name: getattr(self, name) for name in least if getattr(self, name) < least[name]}
        if low:
            wanted = ", ".join(f"{name} >= {least[name]}" for name in low)
            raise ValueError(
                f"`stage2` needs {wanted}. Got {', '.join(f'{name}={value}' for name, value in low.items())}."
            )
