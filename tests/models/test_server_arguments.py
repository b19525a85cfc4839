"""Keys, URLs and arguments of models behind a server, their place in the pool, and whose calls are whose."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest
import torch

from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import ModelPool, ServerLanguageModel
from rapo_lightning.models.usage import Call, at_places, calls_by_item, metered, note
from rapo_lightning.prompting.chat import Sampling
from tests.fake_server import Answer, Body, _quick, chat, error, said, serving  # noqa: F401
from tests.models.test_server import KEY, ask, echo

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("_quick")


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
