"""Chat models behind a server that misbehaves in every way that servers do."""

from __future__ import annotations

import builtins
import json
import socket
import time
from typing import Any

import pytest
import torch

from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import ModelPool, ServerLanguageModel, server_client
from rapo_lightning.models.server_reply import retry_after
from rapo_lightning.models.usage import Call, at_places, calls_by_item, metered, note
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
    with serving(lambda body, asked: chat("x", delay=0.02)) as server:
        ask(server.url, [str(number) for number in range(20)], concurrency=4)
        assert server.most == 4


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
        answers, calls = ask(server.url, ["a", "bad", "b"], timeout=0.3)
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
    monkeypatch.setattr(server_client, "_FIRST_PAUSE", 0.1)
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


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MY_API_KEY", f" {KEY}\n")

    def script(body: Body, asked: int) -> Answer:
        return error(400, f"the key {KEY} may not do this") if said(body) == "bad" else chat("fine")

    with serving(script) as server:
        answers, calls = ask(server.url, ["a", "bad"], key_variable="MY_API_KEY")
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        assert "the key *** may not" in calls[-1].remark
        model = ServerLanguageModel(server.url, "m", key_variable="MY_API_KEY")
        model.load()
        assert KEY not in repr(calls) + repr(vars(model)) + repr(vars(model.client)) + "".join(capsys.readouterr())
    with serving(echo, error(401, f"Incorrect API key provided: {KEY[:8]}***")) as server:
        with pytest.raises(UserError, match="Got HTTP 401 with the key in MY_API_KEY; set that variable") as raised:
            ServerLanguageModel(server.url, "m", key_variable="MY_API_KEY").load()
        assert KEY[:8] not in str(raised.value)
        with pytest.raises(UserError, match="with no key in OPENAI_API_KEY"):
            ServerLanguageModel(server.url, "m").load()
    with serving(lambda body, asked: error(403, KEY[:8])) as server:
        with pytest.raises(RunError, match="HTTP 403 with the key in MY_API_KEY") as raised:
            ask(server.url, ["a"], key_variable="MY_API_KEY")
        assert KEY[:8] not in str(raised.value)
    monkeypatch.setenv("MY_API_KEY", "schlüssel")
    with pytest.raises(UserError, match="printable ASCII") as raised:
        ServerLanguageModel("http://h/v1", "m", key_variable="MY_API_KEY").load()
    assert "schl" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://h/v1",
        "http://user:pa55@h/v1",
        "http://h/v1?key=pa55",
        "http://h:x/v1",
        "http://[pa55",
    ],
)
def test_urls_that_are_none_or_hold_a_secret_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="`url` must be like") as raised:
        ServerLanguageModel(["http://h/v1", url], "m")
    assert "pa55" not in str(raised.value)


@pytest.mark.parametrize("name", [KEY, "HF_TOKEN", "my_api_key", "", "AWS_SECRET_ACCESS_KEY", "A_API_KEY_ID"])
def test_a_recipe_may_send_no_other_variable_than_a_key(name: str) -> None:
    with pytest.raises(UserError, match="`key_variable` must be the name") as raised:
        ServerLanguageModel("http://h/v1", "m", key_variable=name)
    assert not name or name not in str(raised.value)


def test_arguments_out_of_range_are_refused() -> None:
    for more in ({"concurrency": 0}, {"timeout": 0.0}, {"retries": -1}):
        with pytest.raises(UserError, match="concurrency >= 1, timeout > 0 and retries >= 0"):
            ServerLanguageModel("http://h/v1", "m", **more)
    with pytest.raises(UserError, match="Got n; leave it out"):
        ServerLanguageModel("http://h/v1", "m", fields={"n": 2})
    with pytest.raises(UserError, match="Got none"):
        ServerLanguageModel([], "m")


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "openai":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'rapo-lightning\[server\]'"):
        ServerLanguageModel("http://h/v1", "m").load()


def test_a_model_behind_a_server_takes_no_place_on_the_device() -> None:
    moves: list[str] = []

    class Local:
        name = "local"

        def load(self) -> None: ...

        def to(self, device: torch.device) -> None:
            moves.append(device.type)

        def encode(self, texts: list[str]) -> None: ...

    with serving(echo) as server:
        model = ServerLanguageModel(server.url, "m")
        pool = ModelPool(language=model, embedder=Local(), policy="swap", device=torch.device("cpu"))  # type: ignore[arg-type]
        _ = pool.embedder
        assert pool.language.complete([[{"role": "user", "content": "a"}]], [0], Sampling()) == [["A"]]
        assert pool.lend_language().complete([], [], Sampling()) == []
        _ = pool.embedder
    assert moves == ["cpu"]
    assert pool.names["language_model"] == "m"


def test_calls_find_their_items() -> None:
    calls = [Call(0, 1, 2, 0.12345), Call(1, None, None, 0.5, True, "HTTP 500"), Call(9, 3, 4, 1.0)]
    with metered() as outer:
        with at_places([2, 4]):
            note(calls[:2])
        with metered() as inner:
            note(calls[2:])
    note(calls)
    assert [call.item for call in outer] == [2, 4]
    assert inner == calls[2:]
    found = calls_by_item(calls, "judge", 3)
    assert [len(items) for items in found] == [1, 1, 1]
    assert found[0] == [
        {"by": "judge", "prompt_tokens": 1, "completion_tokens": 2, "seconds": 0.1235, "failed": False, "remark": ""}
    ]
    assert json.dumps(found)
    assert calls_by_item([], "judge", 0) == []
