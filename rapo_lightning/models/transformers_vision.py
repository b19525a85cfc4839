"""A vision-language model of transformers that answers questions on videos in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints import loading, locate
from ..errors import RunError
from ..prompting.chat import Messages
from .chat_template import control_tokens, guarded, unused_character
from .choosing import Watch, first_tokens, likelihoods, written_at
from .quantization import Quantizable, Quantization, check_arguments, loading_arguments
from .vision_inputs import Frames, checked_frames, metadata, whole_seconds

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TransformersVisionLanguageModel(Quantizable):
    """Answers conversations whose first user turn has a video, greedily and in batches."""

    def __init__(
        self,
        checkpoint: str,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        batch_size: int = 8,
        sample_fps: float | None = None,
        quantization: Quantization = "none",
    ) -> None:
        """Remembers the arguments; weights are loaded on first use.

        Args:
            checkpoint: Name in the checkpoint manifest, folder, or hub id.
            dtype: Type of the weights; `auto` is bfloat16 on a GPU and float32 elsewhere.
            batch_size: Videos per call.
            sample_fps: Frames per second that the model sees; None leaves it to the checkpoint's processor.
            quantization: `nf4` holds the linear layers in 4 bits, `int8` in 8 with one video per call; needs bitsandbytes.

        Raises:
            UserError: If bitsandbytes is missing, or does not go together with the other arguments.
        """
        check_arguments(quantization, batch_size)
        self.quantization = quantization
        self.name, self.dtype, self.batch_size, self.sample_fps = checkpoint, dtype, batch_size, sample_fps
        self.model: Any = None
        self.processor: Any = None
        self._time_factor = 1.0

    def load(self) -> None:
        """Loads processor and model, once."""
        if self.model is not None:
            return
        from transformers import AutoModelForImageTextToText, AutoProcessor

        path, place = locate(self.name), self._where_to_load()
        weights = _DTYPES.get(self.dtype, torch.bfloat16 if torch.cuda.is_available() else torch.float32)
        with loading("vision-language model", path):
            self.processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
            quantized = loading_arguments(self.quantization, weights, place)
            model = AutoModelForImageTextToText.from_pretrained(
                path, dtype=weights, trust_remote_code=False, **quantized
            )
        self.processor.tokenizer.padding_side = "left"
        generation = model.generation_config
        generation.do_sample, generation.temperature, generation.top_p, generation.top_k = False, None, None, None
        generation.repetition_penalty = None
        self._time_factor = whole_seconds(model)
        self.model = model.eval()

    def answer(
        self, videos: Sequence[Frames], fps: float, conversations: Sequence[Messages], max_new_tokens: int
    ) -> list[str]:
        """One answer per conversation; see `base.VisionLanguageModel`."""
        self.load()
        answers: list[str] = []
        for inputs in self._batches(videos, fps, conversations, [""] * len(videos)):
            answers += self._texts(self._generate(inputs, max_new_tokens))
        return answers

    def answer_and_choose(
        self,
        videos: Sequence[Frames],
        fps: float,
        conversations: Sequence[Messages],
        max_new_tokens: int,
        opening: Callable[[str], str],
        choices: Sequence[str],
    ) -> tuple[list[str], NDArray[np.float64]]:
        """Answers and the probabilities of how they go on; see `base.answer_and_choose`.

        Where an answer begins with its opening, they are those of its own generation; the others take another pass.
        """
        self.load()
        answers: list[str] = []
        likely = np.zeros((len(videos), len(choices)))
        unread: list[int] = []
        _, tokens = first_tokens(self.processor.tokenizer, self.name, opening(""), choices)
        for inputs in self._batches(videos, fps, conversations, [""] * len(videos)):
            watch = Watch(tokens)
            ids = self._generate(inputs, max_new_tokens, watch)
            for row, text in enumerate(self._texts(ids)):
                begun, firsts = first_tokens(self.processor.tokenizer, self.name, opening(text), choices)
                step = written_at(self.processor.tokenizer, ids[row].tolist(), begun)
                found = watch.at(row, step) if step is not None and firsts == tokens else None
                if found is None:
                    unread.append(len(answers))
                else:
                    likely[len(answers)] = found
                answers.append(text)
        if unread:
            left = [opening(answers[index]) for index in unread]
            turns = [conversations[index] for index in unread]
            likely[unread] = self.choose([videos[index] for index in unread], fps, turns, left, choices)
        return answers, likely

    def _generate(self, inputs: dict[str, Tensor], max_new_tokens: int, *watches: Watch) -> Tensor:
        """The tokens of a batch's answers alone, `(rows, tokens)`, padded on the right."""
        tokenizer = self.processor.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        with torch.inference_mode():
            made: Tensor = self.model.generate(
                **inputs, do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=pad, logits_processor=[*watches]
            )
        return made[:, inputs["input_ids"].shape[1] :]

    def _texts(self, ids: Tensor) -> list[str]:
        said = self.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in said]

    def choose(
        self,
        videos: Sequence[Frames],
        fps: float,
        conversations: Sequence[Messages],
        openings: Sequence[str],
        choices: Sequence[str],
    ) -> NDArray[np.float64]:
        """Probabilities of how answers go on; see `base.VisionLanguageModel`."""
        self.load()
        found = []
        starts = [first_tokens(self.processor.tokenizer, self.name, opening, choices) for opening in openings]
        begun, tokens = zip(*starts, strict=True)
        for number, inputs in enumerate(self._batches(videos, fps, conversations, begun)):
            with torch.inference_mode():
                logits = self.model(**inputs, logits_to_keep=1).logits[:, -1]
            found.append(likelihoods(logits, tokens[number * self.batch_size :][: len(logits)]))
        return np.concatenate(found)

    def _batches(
        self, videos: Sequence[Frames], fps: float, conversations: Sequence[Messages], openings: Sequence[str]
    ) -> Iterator[dict[str, Tensor]]:
        for begin in range(0, len(videos), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            yield self._encode(
                [checked_frames(video) for video in videos[part]], fps, conversations[part], openings[part]
            )

    def _encode(
        self, videos: list[Frames], fps: float, conversations: Sequence[Messages], openings: Sequence[str]
    ) -> dict[str, Tensor]:
        """Inputs of the model; what turns and openings say is never read as control tokens."""
        tokenizer = self.processor.tokenizer
        mark = unused_character([*conversations, [{"role": "assistant", "content": text} for text in openings]])
        control = control_tokens(tokenizer, str(self.processor.chat_template or ""))
        texts = []
        for turns, opening in zip(conversations, openings, strict=True):
            messages: list[dict[str, Any]] = [
                {"role": turn["role"], "content": [{"type": "text", "text": guarded(turn["content"], control, mark)}]}
                for turn in turns
            ]
            first = next(message for message in messages if message["role"] == "user")
            first["content"].insert(0, {"type": "video"})
            head = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            texts.append(head + guarded(opening, control, mark))
        sampling = {} if self.sample_fps is None else {"fps": self.sample_fps, "do_sample_frames": True}
        inputs = self.processor(
            text=texts,
            videos=videos,
            # Without the rate the processor takes 24 frames for a second, and every motion for another.
            video_metadata=[metadata(video, fps) for video in videos],
            padding=True,
            return_tensors="pt",
            **sampling,
        )
        values = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        if any(mark in text for text in texts):
            values |= self._without_marks(values, mark)
        if "second_per_grid_ts" in inputs:
            values["second_per_grid_ts"] = torch.as_tensor(inputs["second_per_grid_ts"]) * self._time_factor
        return {name: value.to(self.model.device) for name, value in values.items()}

    def _without_marks(self, values: dict[str, Tensor], mark: str) -> dict[str, Tensor]:
        """The rows without the mark's tokens, padded on the left to the length they had."""
        tokenizer = self.processor.tokenizer
        own = tokenizer(mark, add_special_tokens=False)["input_ids"]
        names = [name for name in ("input_ids", "attention_mask", "mm_token_type_ids") if name in values]
        rows: dict[str, Tensor] = {name: values[name].clone() for name in names}
        for index, ids in enumerate(values["input_ids"].tolist()):
            starts = [place for place in range(len(ids) - len(own) + 1) if ids[place : place + len(own)] == own]
            gone = {place + step for place in starts for step in range(len(own))}
            kept = [place for place in range(len(ids)) if place not in gone]
            for name in names:
                fill = (tokenizer.pad_token_id or 0) if name == "input_ids" else 0
                row = values[name][index, kept]
                rows[name][index] = torch.cat([row.new_full((len(gone),), fill), row])
        left = tokenizer.batch_decode(rows["input_ids"])
        if any(mark in text for text in left):
            raise RunError(
                f"A request with the text of a control token cannot be encoded for {self.name}. Got a tokenizer that joins "
                "it with what is around it; take the control token out of the request."
            )
        return rows
