"""The `openai` engine against servers that fail in the ways servers do."""

from __future__ import annotations

import gzip
import json
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_models import build_tiny_tokenizer
from paced_trl.generation.completions import Completion, SamplingParameters
from paced_trl.generation.engines import load_generator
from paced_trl.generation.openai_engine import OpenAIGenerator


PROMPTS = ["2+2=", "3+3=", "abc", "2+2+2="]


class RefusedPromptError(Exception):
    """A prompt that the stub refuses with status 400."""


class StubServer(ThreadingHTTPServer):
    """
    Answers prompts of token ids: the text says prompt, number and a `!` where the completion ended by itself.

    `faults` are consumed one per request, before any answer: a status, "drop", "garbage", "empty", headers, JSON, or
    a function of the handler.
    """

    daemon_threads = True
    # Many requests at once: the default of 5 would refuse some.
    request_queue_size = 128

    def __init__(self, *, most_choices: int = 1000, faults: list[Any] | None = None, dies_after: int | None = None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.most_choices = most_choices
        self.faults = list(faults or [])
        self.dies_after = dies_after
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.num_in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Dropped connections are meant."""

    def choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        prompt = build_tiny_tokenizer().decode(body["prompt"]) if isinstance(body["prompt"], list) else body["prompt"]
        reason = "length" if prompt == "abc" else "stop"
        return [
            {"index": i, "text": f"{prompt}{i}", "finish_reason": reason}
            for i in range(min(body["n"], self.most_choices))
        ]


class _Handler(BaseHTTPRequestHandler):
    server: StubServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.num_in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.num_in_flight)
            server.bodies.append(body)
            server.headers.append({name.title(): value for name, value in self.headers.items()})
            is_dead = server.dies_after is not None and len(server.bodies) > server.dies_after
            fault = "drop" if is_dead else server.faults.pop(0) if server.faults else None
        try:
            self.answer(body, fault)
        finally:
            with server.lock:
                server.num_in_flight -= 1

    def answer(self, body: dict[str, Any], fault: Any) -> None:
        if fault == "drop":
            self.connection.close()
            return
        if callable(fault):
            fault(self)
            return
        status, headers = 200, {}
        if isinstance(fault, int):
            status = fault
        elif isinstance(fault, dict):
            status, headers = 429, fault
        try:
            choices = self.server.choices(body)
        except RefusedPromptError:
            refuse(self, 400, "too long")
            return
        answer: Any = {"choices": choices, "usage": {"completion_tokens": 7}}
        content = json.dumps({"choices": []} if fault == "empty" else fault[1] if isinstance(fault, tuple) else answer)
        if status != 200:
            content = json.dumps({"error": f"status {status}"})
        data = b"<html>\xff" if fault == "garbage" else content.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StubServer]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Tests do not wait as long as users do.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("paced_trl.generation.servers._PAUSE", 0.01)
    servers = []

    def start(**options: Any) -> StubServer:
        servers.append(StubServer(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def make_generator(*servers: StubServer, **options: Any) -> OpenAIGenerator:
    names = set(SamplingParameters.__dataclass_fields__)
    sampling = {"max_completion_length": 16, **{name: options.pop(name) for name in names & options.keys()}}
    return OpenAIGenerator(
        [server.url for server in servers],
        "tiny",
        build_tiny_tokenizer(),
        SamplingParameters(**sampling),
        **options,
    )


def texts(generator: OpenAIGenerator, num_generations: Any = 3, prompts: list[str] = PROMPTS) -> dict[int, list[str]]:
    return {index: [c.text for c in cs] for index, cs in generator(prompts, num_generations, seed=0)}


EXPECTED = {index: [f"{prompt}{i}" for i in range(3)] for index, prompt in enumerate(PROMPTS)}


def test_each_prompt_is_one_request_with_everything_said(serve: Callable[..., StubServer]) -> None:
    server = serve()
    generator = make_generator(server, temperature=0.7, top_p=0.9, extra_body={"return_token_ids": True})
    assert texts(generator) == EXPECTED
    tokenizer = build_tiny_tokenizer()
    sent = {tokenizer.decode(body.pop("prompt")): body for body in server.bodies}
    assert sorted(sent) == sorted(PROMPTS)
    seeds = {body.pop("seed") for body in sent.values()}
    assert len(seeds) == 4 and all(0 <= seed < 2**31 for seed in seeds)
    assert sent["abc"] == {
        "model": "tiny",
        "n": 3,
        "max_tokens": 16,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": [1],
        "return_token_ids": True,
    }


def test_seeds_repeat_and_can_be_left_out(serve: Callable[..., StubServer]) -> None:
    server = serve()
    generator = make_generator(server, concurrency=1)
    for seed in (0, 0, 1):
        list(generator(["ab"], 2, seed=seed))
    first, again, other = (body["seed"] for body in server.bodies)
    assert first == again != other
    list(make_generator(server, send_seed=False)(["ab"], 2, seed=0))
    assert "seed" not in server.bodies[-1]


def test_a_server_that_ignores_n_is_asked_again(serve: Callable[..., StubServer]) -> None:
    server = serve(most_choices=1)
    generator = make_generator(server, concurrency=1)
    generated = dict(generator(PROMPTS, [3, 0, 1, 2], seed=0))
    assert {index: len(completions) for index, completions in generated.items()} == {0: 3, 2: 1, 3: 2}
    # Found out with the first answer; from then on it is asked for one at a time, each with a seed of its own.
    assert [body["n"] for body in server.bodies] == [2, 1, 1, 1, 1, 1]
    assert len({body["seed"] for body in server.bodies}) == 6
    # A single choice: its length is the usage's.
    assert {c.num_tokens for completions in generated.values() for c in completions} == {7}


def test_tokens_and_finish_reasons_are_read(serve: Callable[..., StubServer], monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    generated = dict(make_generator(server)(PROMPTS, 2, seed=0))
    # Two choices share one usage, so tokens are counted: one per character and the end.
    assert generated[0][0] == Completion("2+2=0", 6, "stop")
    assert generated[2][1] == Completion("abc1", 16, "length")
    choice = {"text": "x", "finish_reason": "eos_token", "token_ids": [4, 5, 1]}
    monkeypatch.setattr(server, "choices", lambda body: [choice] * 3)
    # More than asked for is not taken.
    assert dict(make_generator(server)(["ab"], 2, seed=0)) == {0: [Completion("x", 3, "stop")] * 2}


def test_greedy_completions_are_asked_for_once(serve: Callable[..., StubServer]) -> None:
    server = serve()
    assert texts(make_generator(server, temperature=0)) == {i: [f"{p}0"] * 3 for i, p in enumerate(PROMPTS)}
    assert {body["n"] for body in server.bodies} == {1}


@pytest.mark.parametrize(
    ("faults", "num_invalid"),
    [
        ([500, 503], 0),
        (["drop"], 0),
        (["garbage"], 1),
        (["empty"], 1),
        ([("json", [])], 1),
        ([("json", {"choices": [{"text": None, "finish_reason": "stop"}]})], 1),
        ([("json", {"choices": [{"text": "x", "finish_reason": "abort"}]})], 1),
        ([("json", {"choices": ["x"]})], 1),
        ([500, "drop", "garbage", 502], 1),
    ],
    ids=str,
)
def test_failures_are_retried(serve: Callable[..., StubServer], faults: list[Any], num_invalid: int) -> None:
    server = serve(faults=faults)
    generator = make_generator(server)
    assert texts(generator) == EXPECTED
    assert len(server.bodies) == len(PROMPTS) + len(faults)
    assert generator.num_invalid_responses == num_invalid
    # What failed was asked for again in the same words.
    assert len({json.dumps(body) for body in server.bodies}) == len(PROMPTS)


def test_retry_after_is_honoured(serve: Callable[..., StubServer]) -> None:
    server = serve(faults=[{"Retry-After": "1"}])
    generator = make_generator(server, concurrency=1)
    started = time.monotonic()
    assert texts(generator) == EXPECTED
    assert time.monotonic() - started > 0.9


def test_a_server_that_dies_is_dropped_and_its_work_redone(serve: Callable[..., StubServer]) -> None:
    dying, healthy = serve(dies_after=2), serve()
    prompts = [f"{i}+{j}=" for i in range(6) for j in range(5)]
    generator = make_generator(dying, healthy, concurrency=3, max_failures=3)
    with pytest.warns(UserWarning, match=rf"{dying.url}.* is dropped after 3 failures .*with 1 of 2 servers"):
        made = texts(generator, 2, prompts)
    assert made == {index: [f"{prompt}0", f"{prompt}1"] for index, prompt in enumerate(prompts)}
    # Each of the three requests in flight is tried three times at most.
    assert 3 <= len(dying.bodies) - 2 <= 3 * 3
    answered = Counter(json.dumps(body) for body in [*dying.bodies[:2], *healthy.bodies])
    assert len(answered) == len(prompts) and set(answered.values()) == {1}
    assert max(dying.most_in_flight, healthy.most_in_flight) <= 3
    # It stays dropped.
    num_bodies = len(dying.bodies)
    assert texts(generator) == EXPECTED
    assert len(dying.bodies) == num_bodies


def test_an_answer_that_was_begun_before_a_failure_does_not_excuse_it(
    serve: Callable[..., StubServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    generator = make_generator(server, concurrency=2, max_failures=1)
    (judged,) = generator._pool.servers
    choices = server.choices
    in_flight_is_answered = threading.Event()

    def answered(body: dict[str, Any]) -> list[dict[str, Any]]:
        prompt = build_tiny_tokenizer().decode(body["prompt"])
        if prompt == "fails":
            return []
        if prompt == "in flight":  # begun first, answered when the second has failed for good
            deadline = time.monotonic() + 10
            while not judged.num_failed and time.monotonic() < deadline:
                time.sleep(0.01)
        else:  # begun after the failure
            in_flight_is_answered.wait(10)
        return choices(body)

    monkeypatch.setattr(server, "choices", answered)
    num_failed = {}
    with pytest.raises(ConnectionError, match=r"failed 1 times while others were answered\..*answered no choices"):
        # Longer prompts are begun first.
        for index, _ in generator(["in flight", "fails", "ab"], 1, seed=0):
            num_failed[index] = judged.num_failed
            in_flight_is_answered.set()
    assert num_failed == {0: 1, 2: 0}


def test_when_all_are_dead_each_is_named_with_its_last_error(serve: Callable[..., StubServer]) -> None:
    closed, broken, babbling = serve(), serve(faults=[500] * 99), serve(faults=["garbage"] * 99)
    closed.shutdown()
    closed.server_close()
    generator = make_generator(closed, broken, babbling, max_failures=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ConnectionError, match="No server is left") as error:
            texts(generator)
    message = str(error.value)
    assert f"{closed.url}/v1: ConnectError" in message
    assert f"{broken.url}/v1: status 500" in message
    assert f"{babbling.url}/v1: answered no JSON but '<html>" in message
    with pytest.raises(ConnectionError, match="No server is left"):
        texts(generator)


def test_a_request_that_always_fails_is_given_up(serve: Callable[..., StubServer], monkeypatch: Any) -> None:
    server = serve()
    choices = server.choices
    monkeypatch.setattr(server, "choices", lambda body: [] if len(body["prompt"]) == 3 else choices(body))
    with pytest.raises(ConnectionError, match=r"failed 4 times .* answered no choices|No server is left"):
        texts(make_generator(server, max_failures=4))


@pytest.mark.parametrize(("status", "most_requests"), [(400, 3), (401, 1), (404, 1), (422, 3)])
def test_a_refused_request_is_not_retried(serve: Callable[..., StubServer], status: int, most_requests: int) -> None:
    server = serve(faults=[status] * 9)
    with pytest.raises(ValueError, match=f"refuses a request with status {status}"):
        texts(make_generator(server, concurrency=1))
    # A status that may be the prompt's fault is seen for three of them before the request is taken to be wrong.
    assert len(server.bodies) == most_requests
    assert len({json.dumps(body) for body in server.bodies}) == most_requests


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Send an answer without end, a byte at a time: no single read takes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with suppress(OSError):
        for _ in range(1000):
            handler.wfile.write(b" ")
            time.sleep(0.02)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(1000):
            handler.wfile.write(b"x")
            time.sleep(0.02)


@pytest.mark.parametrize("fault", [drip, drip_headers])
def test_an_answer_that_drips_in_is_timed_out(serve: Callable[..., StubServer], fault: Any) -> None:
    server = serve(faults=[fault])
    started = time.monotonic()
    assert texts(make_generator(server, timeout=0.5)) == EXPECTED
    assert time.monotonic() - started < 5
    assert len(server.bodies) == len(PROMPTS) + 1


def flood(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        for _ in range(1000):
            handler.wfile.write(b" " * 1000)


def bomb(handler: BaseHTTPRequestHandler) -> None:
    data = gzip.compress(b" " * 10**7)
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@pytest.mark.parametrize(("fault", "says"), [(flood, "more than 100000 bytes"), (bomb, "answered compressed")])
def test_answers_are_bounded(
    serve: Callable[..., StubServer], monkeypatch: pytest.MonkeyPatch, fault: Any, says: str
) -> None:
    monkeypatch.setattr("paced_trl.generation.servers._LARGEST_ANSWER", 100_000)
    assert texts(make_generator(serve(faults=[fault]))) == EXPECTED
    with pytest.raises(ConnectionError, match=says):
        texts(make_generator(serve(faults=[fault] * 99), max_failures=2))


@pytest.mark.parametrize("value", ["²", "nan", "-1", "soon", "inf", "Wed, 99 Foo"])
def test_an_odd_retry_after_is_no_reason_to_stop(serve: Callable[..., StubServer], value: str) -> None:
    server = serve(faults=[lambda handler: refuse(handler, 429, "slower", {"Retry-After": value.encode()})])
    assert texts(make_generator(server)) == EXPECTED


def refuse(handler: BaseHTTPRequestHandler, status: int, text: str, headers: dict[str, bytes] | None = None) -> None:
    lines = [f"HTTP/1.1 {status} No\r\nContent-Length: {len(text.encode())}\r\n".encode()]
    lines += [name.encode() + b": " + value + b"\r\n" for name, value in (headers or {}).items()]
    handler.wfile.write(b"".join(lines) + b"\r\n" + text.encode())


@pytest.mark.parametrize("reason", [None, "", "abort", "content_filter", ["stop"], {"type": "stop"}, 3, True])
def test_an_odd_finish_reason_is_no_completion(serve: Callable[..., StubServer], reason: Any) -> None:
    generator = make_generator(serve(faults=[("json", {"choices": [{"text": "x", "finish_reason": reason}] * 3})]))
    assert texts(generator) == EXPECTED
    assert generator.num_invalid_responses == 1


@pytest.mark.parametrize("count", [-1, 0, 17, 10**30, 1e300, "7", True, None, [7]])
@pytest.mark.parametrize("place", ["usage", "token_ids"])
def test_absurd_token_counts_are_counted_again(
    serve: Callable[..., StubServer], monkeypatch: pytest.MonkeyPatch, count: Any, place: str
) -> None:
    choice: dict[str, Any] = {"text": "abc", "finish_reason": "stop"}
    answer: dict[str, Any] = {"choices": [choice], "usage": {"completion_tokens": count}}
    if place == "token_ids":
        choice["token_ids"] = [5] * 17 if count == 17 else count
    server = serve(faults=[("json", answer)])
    assert dict(make_generator(server)(["ab"], 1, seed=0)) == {
        0: [Completion("abc", 1 if (count, place) == ([7], "token_ids") else 4, "stop")]
    }


def test_half_a_character_is_replaced(serve: Callable[..., StubServer]) -> None:
    choice = {"text": "a\ud83db \ud83d\ude00", "finish_reason": "stop", "token_ids": [4]}
    server = serve(faults=[("json", {"choices": [choice]})])
    ((_, (completion,)),) = make_generator(server)(["ab"], 1, seed=0)
    assert completion.text == "a\ufffdb \U0001f600"
    assert completion.text.encode()


def test_one_refused_prompt_does_not_end_the_others(
    serve: Callable[..., StubServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    choices = server.choices

    def refuse_one(body: dict[str, Any]) -> list[dict[str, Any]]:
        if len(body["prompt"]) == 6:
            raise RefusedPromptError
        return choices(body)

    monkeypatch.setattr(server, "choices", refuse_one)
    made = {}
    # The longest is asked first, before anything was answered.
    with pytest.raises(
        ValueError, match=r"1 requests were refused and all others.* prompt 3 with 6 tokens.*status 400"
    ):
        for index, completions in make_generator(server, concurrency=1)(PROMPTS, 3, seed=0):
            made[index] = [completion.text for completion in completions]
    assert made == {index: EXPECTED[index] for index in range(3)}
    assert len(server.bodies) == len(PROMPTS)


def test_what_a_server_says_is_made_safe_for_the_terminal(serve: Callable[..., StubServer]) -> None:
    text = "\x1b[2J\x1b]0;title\x07 no\r\nsuch \u202e model" + "x" * 10**6
    for status, error in ((404, ValueError), (500, ConnectionError)):
        server = serve(faults=[lambda handler, status=status: refuse(handler, status, text)] * 99)
        with pytest.raises(error, match="such") as caught:
            texts(make_generator(server, max_failures=1))
        message = str(caught.value)
        assert message.replace("\n", "").isprintable() and len(message) < 2000
    choice = {"text": 5, "finish_reason": "\x1b[2J"}
    server = serve(faults=[("json", {"choices": [choice]})] * 99)
    with pytest.raises(ConnectionError, match="without text") as caught:
        texts(make_generator(server, max_failures=1))
    assert str(caught.value).replace("\n", "").isprintable()


def test_the_record_holds_no_place_and_no_key(
    serve: Callable[..., StubServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setenv("TINY_KEY", "secret")
    generator = make_generator(server, api_key_variable="TINY_KEY", model_record={"weights": "step-5"})
    texts(generator)
    assert all(headers["Authorization"] == "Bearer secret" for headers in server.headers)
    # What the environment holds for OpenAI's own servers goes nowhere else.
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "secret")
    without_key = serve()
    texts(make_generator(without_key))
    assert not any("secret" in json.dumps(headers) for headers in without_key.headers)
    assert not any(name in headers for headers in without_key.headers for name in ("Authorization", "Openai-Project"))
    record = generator.record
    assert json.loads(json.dumps(record)) == record
    assert (record["engine"], record["model"], record["weights"]) == ("openai", "tiny", "step-5")
    assert "secret" not in json.dumps(record) and "127.0.0.1" not in json.dumps(record)
    assert record == make_generator(serve(), concurrency=3, model_record={"weights": "step-5"}).record
    assert record != make_generator(server, chat_template_kwargs={"think": True}).record
    assert record["chat_template"].startswith("sha256:")
    with pytest.raises(ValueError, match="no such environment variable"):
        make_generator(server, api_key_variable="NO_SUCH_KEY")


def test_text_prompts_and_plain_parameters(serve: Callable[..., StubServer]) -> None:
    server = serve()
    generator = make_generator(server, prompt_format="text", openai_parameters_only=True)
    assert texts(generator) == EXPECTED
    assert {body["prompt"] for body in server.bodies} == set(PROMPTS)
    assert set(server.bodies[0]) == {"model", "prompt", "n", "max_tokens", "temperature", "top_p", "seed"}
    with pytest.raises(ValueError, match="OpenAI's parameters cannot say"):
        make_generator(server, openai_parameters_only=True, top_k=5)


def test_impossible_options_and_prompts_are_refused(serve: Callable[..., StubServer]) -> None:
    server = serve()
    with pytest.raises(ValueError, match="There is no server"):
        make_generator()
    for options in ({"concurrency": 0}, {"max_failures": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            make_generator(server, **options)
    # A setting of version 0.1 is accepted, and said to do nothing.
    with pytest.warns(UserWarning, match=r"`backoff` is 0.5 and has no effect"):
        make_generator(server, backoff=0.5)
    with pytest.raises(ValueError, match="'ids' or 'text'"):
        make_generator(server, prompt_format="chat")
    with pytest.raises(ValueError, match="Prompt 1 has no tokens"):
        texts(make_generator(server), 1, ["a", ""])
    with pytest.raises(ValueError, match="context of 20 tokens"):
        make_generator(server, context_length=20).check_prompts(["abcdef"])
    assert server.bodies == []


def test_who_stops_reading_is_not_kept_waiting(serve: Callable[..., StubServer]) -> None:
    generated = make_generator(serve(), concurrency=2)(PROMPTS, 1, seed=0)
    next(iter(generated))
    generated.close()  # type: ignore[attr-defined]
    assert texts(make_generator(serve())) == EXPECTED


def test_estimate_goes_through_servers_and_goes_on_after_a_kill(
    serve: Callable[..., StubServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paced_trl.commands.estimate import run
    from paced_trl.generation import models
    from paced_trl.store.store import PassRateStore

    monkeypatch.setattr(models, "load_model", lambda *_, **__: pytest.fail("weights were loaded"))
    build_tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    problems = [{"prompt": f"{i}+{i}=", "solution": f"{i}+{i}=0"} for i in range(12)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    server = serve()

    def arguments(url: str) -> list[str]:
        engine_kwargs = {
            "base_urls": [url],
            "tokenizer_name_or_path": str(tmp_path / "tokenizer"),
            "max_failures": 2,
            "concurrency": 2,
        }
        options = json.dumps(engine_kwargs, separators=(",", ":"))
        text = f"--model_name_or_path tiny --engine openai --engine_kwargs {options}"
        text += (
            f" --dataset_name {tmp_path}/problems.jsonl --output_dir {tmp_path}/run --verifier exact --as_chat false"
        )
        return f"{text} --num_generations 4 --max_completion_length 16".split()

    dying = serve(dies_after=5)
    with pytest.raises(ConnectionError, match=r"No server is left|failed 2 times while others were answered"):
        run(arguments(dying.url))
    kept = PassRateStore(tmp_path / "run" / "pass_rates").completions()
    assert 0 < len(kept) < 48
    run(arguments(server.url))
    table = PassRateStore(tmp_path / "run" / "pass_rates").completions()
    assert len(table) == 48
    # What the first server had done is not asked for again.
    assert 4 * len(server.bodies) == 48 - len(kept)
    verdicts = Counter(table["verdict"].to_pylist())
    assert verdicts["passed"] == 12


def test_generators_of_servers_are_loaded_by_name(serve: Callable[..., StubServer], tmp_path: Path) -> None:
    build_tiny_tokenizer().save_pretrained(tmp_path)
    generator = load_generator(
        "openai",
        model_name_or_path="tiny",
        base_urls=[f"{serve().url}/v1/"],
        tokenizer_name_or_path=str(tmp_path),
        sampling=SamplingParameters(max_completion_length=16),
    )
    assert {i: [c.text for c in cs] for i, cs in generator(PROMPTS, 3, seed=0)} == EXPECTED
