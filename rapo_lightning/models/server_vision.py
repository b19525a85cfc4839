"""Vision-language models behind an OpenAI-compatible server: frames go as images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..prompting.chat import Messages
from ..prompting.templates import template
from .server import ServerModel

Frames = NDArray[np.uint8]
_JPEG_QUALITY = 90


class ServerVisionLanguageModel(ServerModel):
    """A chat model behind a server that sees videos as images."""

    def __init__(
        self,
        url: str | list[str],
        model: str,
        frames: int = 8,
        image_format: Literal["jpeg", "png"] = "jpeg",
        **server: Any,
    ) -> None:
        """Checks the arguments; the server is asked whether it is there when the model is loaded.

        Args:
            url: As in `ServerModel`.
            model: Name of the model there.
            frames: Frames that the model sees of a video, evenly spaced from the first to the last.
            image_format: How they are sent; png loses nothing, jpeg (quality 90) is smaller.
            **server: Further arguments of `ServerModel`.

        Raises:
            UserError: If an argument is out of range or of another form.
        """
        super().__init__(url, model, **server)
        if frames < 1:
            raise UserError(f"`frames` must be 1 or more. Got {frames}.")
        self.frames, self.image_format = frames, image_format

    def answer(
        self, videos: Sequence[Frames], fps: float, conversations: Sequence[Messages], max_new_tokens: int
    ) -> list[str]:
        """One answer per conversation, see `base.VisionLanguageModel`; empty where the request failed for good."""
        requests = [
            self.request(self._seen(video, fps, turns), max_new_tokens, temperature=0.0)
            for video, turns in zip(videos, conversations, strict=True)
        ]
        return [reply.text.strip() for reply in self.client.ask(requests, range(len(requests)))]

    def choose(
        self,
        videos: Sequence[Frames],
        fps: float,
        conversations: Sequence[Messages],
        openings: Sequence[str],
        choices: Sequence[str],
    ) -> NDArray[np.float64]:
        """Probabilities of how answers go on, see `base.VisionLanguageModel` and `ServerModel.pick`."""
        seen = [self._seen(video, fps, turns) for video, turns in zip(videos, conversations, strict=True)]
        return self.pick(seen, openings, choices)

    def _seen(self, video: Frames, fps: float, messages: Messages) -> list[dict[str, Any]]:
        """A conversation with the frames before the text of its first user turn."""
        places = np.unique(np.linspace(0, len(video) - 1, min(self.frames, len(video))).round().astype(int))
        told = template("models", "frames").format(
            count=len(places), seconds=len(video) / fps, times=", ".join(f"{place / fps:.2f}" for place in places)
        )
        shown = [{"type": "text", "text": told}, *(self._image(video[place]) for place in places)]
        first = next(index for index, turn in enumerate(messages) if turn["role"] == "user")
        text = {"type": "text", "text": messages[first]["content"]}
        return [*messages[:first], {"role": "user", "content": [*shown, text]}, *messages[first + 1 :]]

    def _image(self, frame: Frames) -> dict[str, Any]:
        buffer = io.BytesIO()
        # png takes no quality and passes over it.
        Image.fromarray(frame).save(buffer, self.image_format, quality=_JPEG_QUALITY)
        data = base64.b64encode(buffer.getvalue()).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/{self.image_format};base64,{data}"}}
