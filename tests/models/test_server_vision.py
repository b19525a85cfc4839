"""Vision-language models behind a server: what is sent of a video, and how choices are read."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rapo_lightning.models import ServerLanguageModel, ServerVisionLanguageModel
from rapo_lightning.models.server_choices import choice_probabilities
from rapo_lightning.models.server_reply import Reply
from rapo_lightning.models.usage import Call, metered
from tests.fake_server import Answer, Body, _quick, chat, error, said, serving  # noqa: F401

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("_quick")
SCORES = ["1", "2", "3", "4", "5"]
VIDEO = np.random.default_rng(0).integers(0, 255, (17, 8, 8, 3), dtype=np.uint8)
LOOK = [{"role": "system", "content": "Look."}, {"role": "user", "content": "What is it?"}]


def tops(*places: tuple[str, dict[str, float]]) -> dict[str, Any]:
    """Log-probabilities as the API gives them, from (the token written, probabilities)."""
    return {
        "content": [
            {"token": token, "logprob": 0.0,
             "top_logprobs": [{"token": text, "logprob": math.log(value)} for text, value in found.items()]}
            for token, found in places
        ]
    }  # fmt: skip


def choose(url: str, openings: list[str], **more: Any) -> tuple[np.ndarray, list[Call]]:
    model = ServerVisionLanguageModel(url, "m", **{"retries": 1, "timeout": 5.0, **more})
    count = len(openings)
    with metered() as calls:
        found = model.choose([VIDEO] * count, 8.0, [LOOK] * count, openings, SCORES)
    return found, calls


def test_frames_go_before_the_first_question() -> None:
    with serving(lambda body, asked: chat("A ball.")) as server:
        model = ServerVisionLanguageModel(server.url, "m", frames=5, image_format="png")
        turns = [*LOOK, {"role": "assistant", "content": "A ball."}, {"role": "user", "content": "And now?"}]
        with metered() as calls:
            assert model.answer([VIDEO, VIDEO[:1]], 8.0, [turns, LOOK], 32) == ["A ball."] * 2
        long, short = sorted(server.bodies, key=lambda body: -len(body["messages"]))
    assert [call.item for call in calls] == [0, 1]
    assert (long["temperature"], long["max_tokens"]) == (0.0, 32)
    assert [turn["role"] for turn in long["messages"]] == ["system", "user", "assistant", "user"]
    assert [turn["content"] for turn in long["messages"][2:]] == ["A ball.", "And now?"]
    told, *images, asked = long["messages"][1]["content"]
    assert "5 images" in told["text"]
    assert "2.1 seconds" in told["text"]
    assert "0.00, 0.50, 1.00, 1.50, 2.00 seconds" in told["text"]
    assert asked == {"type": "text", "text": "What is it?"}
    data = [image["image_url"]["url"].removeprefix("data:image/png;base64,") for image in images]
    seen = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in data])
    np.testing.assert_array_equal(seen, VIDEO[::4])
    assert len(short["messages"][1]["content"]) == 3


def test_jpeg_is_near_enough() -> None:
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))[None]
    with serving(lambda body, asked: chat("x")) as server:
        ServerVisionLanguageModel(server.url, "m").answer([smooth], 8.0, [LOOK], 8)
        url = server.bodies[0]["messages"][1]["content"][1]["image_url"]["url"]
    image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))))
    assert np.abs(np.asarray(image).astype(int) - smooth[0]).max() < 6


def test_choices_come_from_log_probabilities() -> None:
    likely = tops((" ", {" ": 0.5, "4": 0.25, "the": 0.25}), ("5", {"5": 0.6, " 3": 0.4}))
    with serving(lambda body, asked: chat("5", likely)) as server:
        found, calls = choose(server.url, ["The ball is red. Score: ", ""])
        bodies = server.bodies
    np.testing.assert_allclose(found, [[0, 0, 0.2, 0.25, 0.3]] * 2)
    assert [call.remark for call in calls] == ["", ""]
    assert all((body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 20, 0.0) for body in bodies)
    opened, plain = sorted(bodies, key=lambda body: -len(body["messages"]))
    assert opened["messages"][2] == {"role": "assistant", "content": "The ball is red. Score:"}
    assert "1, 2, 3, 4, 5" in said(opened)
    assert [part["type"] for part in plain["messages"][-1]["content"][-2:]] == ["text", "text"]
    assert "1, 2, 3, 4, 5" in said(plain)


def test_a_server_that_can_goes_on_with_the_answer() -> None:
    with serving(lambda body, asked: chat("5", tops(("5", {"5": 1.0})))) as server:
        found, _ = choose(server.url, ["So: "], continues=True, fields={"top_k": 1})
        (body,) = server.bodies
    assert body["messages"][-1] == {"role": "assistant", "content": "So:"}
    assert (body["continue_final_message"], body["add_generation_prompt"], body["top_k"]) == (True, False, 1)
    assert found.tolist() == [[0, 0, 0, 0, 1]]


def test_a_language_model_chooses_as_well() -> None:
    with serving(lambda body, asked: chat("2", tops(("2", {"2": 0.75, "5": 0.25})))) as server:
        found = ServerLanguageModel(server.url, "m").choose([LOOK], ["Score: "], SCORES)
        (body,) = server.bodies
    assert found.tolist() == [[0, 0.75, 0, 0, 0.25]]
    assert [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize("way", ["ignored", "refused", "garbage"])
def test_without_log_probabilities_the_answer_is_read_and_that_is_recorded(way: str) -> None:
    answers = ["**4** of 5", "3.5", "a 4"]

    def script(body: Body, asked: int) -> Answer:
        if way == "refused" and "logprobs" in body:
            return error(400, "logprobs are not supported")
        text = next(turn["content"] for turn in body["messages"] if turn["role"] == "assistant")
        return chat(answers[int(text)], {"content": [{"token": 1}]} if way == "garbage" else None)

    with serving(script) as server:
        found, calls = choose(server.url, ["0", "1", "2"])
    assert found.tolist() == [[0, 0, 0, 1, 0], [0] * 5, [0] * 5]
    kept = [call for call in calls if not call.failed]
    assert [(call.item, call.remark) for call in kept] == [(index, "no log-probabilities") for index in range(3)]
    # Refused once, it is not asked again.
    assert len(calls) - len(kept) == (1 if way == "refused" else 0)


def test_a_request_that_fails_has_no_choice_and_keeps_the_rest() -> None:
    def script(body: Body, asked: int) -> Answer:
        bad = any(turn["content"] == "bad" for turn in body["messages"])
        return Answer(b"<html>") if bad else chat("2", tops(("2", {"2": 1.0})))

    with serving(script) as server:
        found, calls = choose(server.url, ["a", "bad", "b"])
        assert ServerVisionLanguageModel(server.url, "m").choose([], 8.0, [], [], SCORES).shape == (0, 5)
    assert found.sum(axis=1).tolist() == [1, 0, 1]
    assert [call.item for call in calls if call.failed] == [1, 1]


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        ("5", SCORES, [0, 0, 0, 0, 1]),
        (" 5/5", SCORES, [0, 0, 0, 0, 1]),
        ("55", SCORES, [0] * 5),
        ("4,5", SCORES, [0] * 5),
        ("Yes, it does", ["No", "Yes"], [0, 1]),
        ("Yesterday", ["No", "Yes"], [0, 0]),
        ("", SCORES, [0] * 5),
        ("x" * 40_000, SCORES, [0] * 5),
    ],
)
def test_an_answer_names_a_choice_as_a_whole_word(text: str, choices: list[str], expected: list[float]) -> None:
    assert choice_probabilities(Reply(text), choices) == expected


def test_tokens_count_for_the_one_choice_that_they_can_be() -> None:
    place = ("Y", (("Y", 0.5), (" Ye", 0.2), ("N", 0.1), ("No.", 0.1), ("Yesterday", 0.05), ("", 0.05)))
    assert choice_probabilities(Reply(likely=(place,)), ["No", "Yes"]) == pytest.approx([0.2, 0.7])
    shared = ("a", (("a", 1.0),))
    assert choice_probabilities(Reply(likely=(shared,)), ["ab", "ac"]) == [0, 0]


def test_no_frames_are_refused() -> None:
    with pytest.raises(Exception, match="`frames` must be 1 or more"):
        ServerVisionLanguageModel("http://h/v1", "m", frames=0)
