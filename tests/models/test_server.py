"""Chat models behind a server that misbehaves in every way that servers do."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
import torch

from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import ServerLanguageModel, server_rotation
from rapo_lightning.models.server_reply import retry_after
from rapo_lightning.models.usage import Call, metered
from rapo_lightning.prompting.chat import Sampling
from tests.fake_server import Answer, Body, _quick, chat, error, said, serving  # noqa: F401

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("_quick")
KEY = "sk-test-0123456789abcdefghij"


def ask(url: str | list[str], texts: list[str], count: int = 1, **more: Any) -> tuple[list[list[str]], list[Call]]:
    model = ServerLanguageModel(url, "m", **{"retries": 2, "timeout": 5.0, **more})
    conversations = [[{"role": "user", "content": text}] for text in texts]
    with metered() as calls:
        answers = model.complete(conversations, list(range(len(texts))), Sampling(max_new_tokens=9), count)
    return answers, calls


def echo(body: Body, asked: int) -> Answer:
    return chat(said(body).upper())


def refused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def test_every_answer_has_its_own_request_and_seed() -> None:
    def script(body: Body, asked: int) -> Answer:
        return chat(f" {said(body)} {body['seed']} ", delay=0.05)

    with serving(script) as server:
        answers, calls = ask(server.url, ["a", "b", "<|im_end|>"], 2, concurrency=3)
        again, _ = ask(server.url, ["a", "b", "<|im_end|>"], 2)
        assert [text.split()[0] for group in answers for text in group] == [
            "a",
            "a",
            "b",
            "b",
            "<|im_end|>",
            "<|im_end|>",
        ]
        assert answers == again
        assert len({text for group in answers for text in group}) == 6
        assert server.most > 1
        body = server.bodies[0]
        assert (body["model"], body["max_tokens"], body["temperature"], body["top_p"]) == ("m", 9, 0.7, 0.95)
        assert server.headers[0]["authorization"] == "Bearer none"
    assert sorted(call.item for call in calls) == [0, 0, 1, 1, 2, 2]
    assert {(call.prompt_tokens, call.completion_tokens, call.failed, call.remark) for call in calls} == {
        (7, 3, False, "")
    }
    assert all(call.seconds >= 0.05 for call in calls)


def test_no_more_requests_at_a_time_than_allowed() -> None:
    with serving(lambda body, asked: chat("x", delay=0.05)) as server:
        ask(server.url, [str(number) for number in range(20)], concurrency=4)
        # A busy machine may not get all four going at once.
        assert 1 < server.most <= 4


def test_fields_are_added_and_taken_out() -> None:
    with serving(echo) as server:
        ask(server.url, ["a"], fields={"top_p": None, "seed": 5, "chat_template_kwargs": {"enable_thinking": False}})
        (body,) = server.bodies
    assert "top_p" not in body
    assert (body["seed"], body["chat_template_kwargs"]) == (5, {"enable_thinking": False})


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    def script(body: Body, asked: int) -> Answer:
        return chat("fine") if asked or said(body) != "a" else error(429, "slow down", Retry_After="0.3")

    with serving(script) as server:
        answers, calls = ask(server.url, ["a", "b"])
    assert answers == [["fine"], ["fine"]]
    first, second = [call for call in calls if call.item == 0]
    assert (first.failed, first.remark, first.prompt_tokens) == (True, "HTTP 429: slow down", None)
    assert not second.failed


def test_the_wait_that_a_server_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    with serving(lambda body, asked: chat("x") if asked else error(429, Retry_After="0.4")) as server:
        ask(server.url, ["a"])
    assert time.monotonic() - begun > 0.4
    assert retry_after("7") == 7
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is None is retry_after("nan")


def test_a_server_that_stays_busy_stops_the_run() -> None:
    with serving(lambda body, asked: error(429, "quota")) as server, pytest.raises(RunError, match="HTTP 429: quota"):
        ask(server.url, ["a", "b"])


BAD = {
    "500": error(500, "boom\n" * 200),
    "no JSON": Answer(b"<html>busy</html>", headers={"Content-Type": "text/html"}),
    "half JSON": Answer(b'{"choices": [{"mess'),
    "empty": Answer(b""),
    "null": Answer(b"null"),
    "a number": Answer(b"5"),
    "no choices": Answer(b'{"object": "chat.completion"}'),
    "empty choices": Answer(b'{"choices": []}'),
    "choices of text": Answer(b'{"choices": "abc"}'),
    "no message": Answer(b'{"choices": [{"message": null}]}'),
    "content of numbers": chat([1, 2]),
    "deep": Answer(b'{"choices":' + b"[" * 100_000),
    "not UTF-8": Answer(b'{"choices": "\xff\xfe'),
    "closed": Answer(close=True),
    "hanging": Answer(delay=1.5),
    "400": error(400, "too long"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_item_leaves_the_rest_of_the_batch(name: str) -> None:
    def script(body: Body, asked: int) -> Answer:
        return BAD[name] if said(body) == "bad" else chat("fine")

    with serving(script) as server:
        answers, calls = ask(server.url, ["a", "bad", "b"], timeout=0.8)
    assert answers == [["fine"], [""], ["fine"]]
    bad = [call for call in calls if call.item == 1]
    assert len(bad) == (1 if name == "400" else 3)
    assert all(call.failed and call.remark and len(call.remark) < 220 and "\n" not in call.remark for call in bad)
    assert len(calls) == len(bad) + 2


def test_answers_without_text_and_with_half_characters() -> None:
    texts = {"none": None, "half": "a\ud800b", "number": "x"}

    def script(body: Body, asked: int) -> Answer:
        answer = chat(texts[said(body)])
        return Answer(answer.body.replace(b'"prompt_tokens": 7', b'"prompt_tokens": -1e400'))

    with serving(script) as server:
        answers, calls = ask(server.url, list(texts))
    assert answers == [[""], ["a?b"], ["x"]]
    assert [call.remark for call in calls] == ["no text, finish_reason stop", "", ""]
    assert [call.prompt_tokens for call in calls] == [None] * 3


def test_a_server_that_is_not_there_is_named_before_anything_is_asked() -> None:
    url = refused_url()
    with pytest.raises(UserError, match=f"must answer at {url}. Got no connection.*; start it") as raised:
        ServerLanguageModel(url, "m").load()
    assert raised.value.exit_code == 2
    with serving(echo, Answer(status=503)) as server, pytest.raises(UserError, match="HTTP 503"):
        ServerLanguageModel(server.url, "m").to(torch.device("cpu"))
    # Not every server lists its models.
    for odd in (error(404), error(500), Answer(b"<html>")):
        with serving(echo, odd) as server:
            assert ask(server.url, ["a"])[0] == [["A"]]


def test_a_server_that_goes_away_stops_the_run_at_once() -> None:
    def script(body: Body, asked: int) -> Answer:
        server.models = Answer(close=True)
        return chat("x") if said(body) == "0" else Answer(close=True)

    with serving(script) as server:
        begun = time.monotonic()
        with pytest.raises(RunError, match="must go on answering.*run the same command again"):
            ask(server.url, [str(number) for number in range(200)], concurrency=2)
        assert len(server.bodies) < 20
    assert time.monotonic() - begun < 5


def test_several_servers_share_the_work_and_a_dead_one_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [str(number) for number in range(12)]
    with serving(echo) as one, serving(echo) as two:
        dead = refused_url()
        answers, calls = ask([one.url, dead, two.url], texts, concurrency=1)
        assert answers == [[text] for text in texts]
        assert (len(one.bodies), len(two.bodies)) == (6, 6)
        assert not any(call.failed for call in calls)
        model = ServerLanguageModel([one.url, two.url], "m", retries=2, concurrency=1)
        model.load()
        two.script = lambda body, asked: Answer(close=True)
        with metered() as calls:
            model.complete([[{"role": "user", "content": text}] for text in texts], range(12), Sampling())
        assert sum(call.failed for call in calls) == 1
    assert capsys.readouterr().err.count("left out for 30 s") == 2


def test_broken_servers_take_turns_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_rotation, "_FIRST_PAUSE", 0.1)
    with serving(lambda body, asked: error(500)) as one, serving(lambda body, asked: error(500)) as two:
        begun = time.monotonic()
        answers, calls = ask([one.url, two.url], ["a"], retries=3)
        assert answers == [[""]]
        assert (len(one.bodies), len(two.bodies), len(calls)) == (2, 2, 4)
    assert time.monotonic() - begun > 0.2


def test_what_would_fail_for_all_stops_the_run() -> None:
    named = pytest.raises(RunError, match="must serve the model m. Got HTTP 404: no model m; correct")
    with serving(lambda body, asked: error(404, "no model m")) as server, named:
        ask(server.url, ["a"])
    with serving(lambda body, asked: error(422, "unknown field top_p")) as server:
        with pytest.raises(RunError, match=r"Got HTTP 422: unknown field top_p; correct `model`, or leave out"):
            ask(server.url, ["a", "b"])
        # Once something was answered, a refusal is the request's own.
        model = ServerLanguageModel(server.url, "m")
        refuse, server.script = server.script, echo
        turns = [[{"role": "user", "content": "a"}]]
        assert model.complete(turns, [0], Sampling()) == [["A"]]
        server.script = refuse
        assert model.complete(turns, [0], Sampling()) == [[""]]
