"""
Work spread over OpenAI-compatible servers that may fail: one `openai.AsyncOpenAI` client per server.

The client retries, waits as long as a `Retry-After` asks, and times out. What is left to do here: who asks which
server, what becomes of the work of a server that fails for good, and answers that are none, too large or without end.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
import openai

from ..text import one_line
from .batching import PromptRow
from .completions import Completion


# A server that answers nothing else meanwhile is dropped after so many requests that failed for good.
_MOST_FAILED_REQUESTS = 3
# Refusals before any answer, from which on the requests are taken to be wrong, and not some of the prompts.
_MOST_REFUSALS = 3
_REFUSED_PROMPT = {400, 413, 422}
_RETRIED_STATUS = {408, 409, 425, 429}
# Seconds, as the client's own.
_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
_LARGEST_ANSWER = 64 * 2**20

# Makes of a row and a server the row that is sent to it, its JSON body, and what is left for others.
Prepare = Callable[[PromptRow, "Server"], tuple[PromptRow, dict[str, Any], list[PromptRow]]]
# Makes of a row, the JSON answer and the server the completions and what is left, or raises `InvalidResponseError`.
Read = Callable[[PromptRow, Any, "Server"], tuple[list[Completion], list[PromptRow]]]


class RefusedError(Exception):
    """A request that is wrong: another attempt would be refused too."""


class InvalidResponseError(Exception):
    """An answer that is none: no JSON, or not of the expected form."""


@dataclass(eq=False)
class Server:
    """A server, by the URL of its API, and how it has been doing."""

    url: str
    most_choices: int | None = None  # completions that a request to it returns at most, once that is known
    num_invalid: int = 0  # answers of it that were none
    num_failed: int = 0  # requests that failed for good since one that was begun after the last of them was answered
    failed_at: float = 0.0
    last_error: str = ""
    is_dropped: bool = False


@dataclass(eq=False)
class _Request:
    row: PromptRow
    tried: set[Server] = field(default_factory=set)  # where it failed for good
    started: float = 0.0
    error: Exception | None = None


@dataclass
class ServerOptions:
    """What requests say beside prompt and sampling, how they are made, and when a server counts as failed."""

    send_seed: bool = True  # False for servers that do not survive it, such as vLLM 0.32 on a CPU
    prompt_format: Literal["ids", "text"] = "ids"  # "text" where ids are refused; may then get special tokens
    # Leave out `top_k`, `min_p`, `repetition_penalty`, `stop_token_ids` where they are refused. Others would take a
    # missing one from the checkpoint's `generation_config`.
    openai_parameters_only: bool = False
    extra_body: dict[str, Any] | None = None  # such as `{"return_token_ids": True}`: vLLM then counts tokens
    # Requests in flight per server: with 8 completions each, the 256 sequences that vLLM runs at once by default.
    concurrency: int = 32
    timeout: float = 600.0  # seconds until an attempt counts as failed
    max_failures: int = 6  # attempts of a request at a server
    api_key_variable: str | None = None  # environment variable that holds the API key; None to send none
    backoff: float | None = None  # of version 0.1: the client decides its pauses

    def __post_init__(self) -> None:
        if self.prompt_format not in ("ids", "text"):
            raise ValueError(f"`prompt_format` is {self.prompt_format!r}: it must be 'ids' or 'text'.")
        if self.concurrency < 1 or self.max_failures < 1:
            raise ValueError(
                f"`concurrency` is {self.concurrency} and `max_failures` is {self.max_failures}: both must be at "
                "least 1."
            )
        if self.api_key_variable is not None and not os.environ.get(self.api_key_variable):
            raise ValueError(
                f"`api_key_variable` is {self.api_key_variable!r}, and there is no such environment variable. Set it "
                "to the API key."
            )
        if self.backoff is not None:
            warnings.warn(
                f"`backoff` is {self.backoff} and has no effect since version 0.2: the client pauses for 0.5 s, "
                "doubled up to 8 s, or as long as a server asks. Leave it out.",
                UserWarning,
                stacklevel=2,
            )


class ServerPool:
    """Complete rows by whichever server, named by the URL of its API, is free."""

    def __init__(self, urls: Sequence[str], options: ServerOptions, read: Read):
        self.servers = [Server(url) for url in urls]
        if not self.servers:
            raise ValueError("There is no server. Name one, e.g. `base_urls=['http://127.0.0.1:8000']`.")
        self.options = options
        self.read = read
        # Else the client would send what the environment holds for OpenAI's own servers.
        omitted = dict.fromkeys(["Authorization", "OpenAI-Organization", "OpenAI-Project"], openai.Omit())
        self.headers: dict[str, Any] = {"Accept-Encoding": "identity", **omitted}
        if options.api_key_variable is not None:
            self.headers["Authorization"] = f"Bearer {os.environ[options.api_key_variable]}"

    @property
    def alive(self) -> list[Server]:
        """The servers that have not been dropped."""
        return [server for server in self.servers if not server.is_dropped]

    def run(self, rows: Sequence[PromptRow], prepare: Prepare) -> Iterator[tuple[PromptRow, list[Completion]]]:
        """
        Yield rows with their completions, as they come; rows in the order in which they shall be begun.

        Raises, after all other rows were answered, ValueError for prompts that every server refuses and
        ConnectionError for those that fail everywhere; at once where no server is left, or all requests are refused.
        """
        self._require_alive()
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._answer_all(deque(map(_Request, rows)), prepare, results))

        def answer() -> None:
            try:
                loop.run_until_complete(task)
                results.put(None)
            except BaseException as error:
                results.put(error)
            finally:
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

        # A thread of its own: servers go on while the caller verifies and stores.
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            while (result := results.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                if isinstance(result, str):
                    warnings.warn(result, UserWarning, stacklevel=2)
                else:
                    yield result
        finally:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
            thread.join()

    async def _answer_all(self, waiting: deque[_Request], prepare: Prepare, results: queue.SimpleQueue[Any]) -> None:
        given_up: list[_Request] = []
        asked: dict[asyncio.Task[Any], tuple[_Request, Server]] = {}
        has_answered = False
        async with AsyncExitStack() as stack:
            clients = {server: await stack.enter_async_context(self._client(server)) for server in self.alive}
            try:
                while waiting or asked:
                    while waiting and (server := self._free_server(waiting[0], [s for _, s in asked.values()])):
                        request = waiting.popleft()
                        request.row, body, rest = prepare(request.row, server)
                        waiting.extendleft(_Request(row) for row in reversed(rest))
                        request.started = time.monotonic()
                        task = asyncio.create_task(self._ask(clients[server], server, request.row, body))
                        asked[task] = request, server
                    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                    all_answered = True
                    for task in done:
                        request, server = asked.pop(task)
                        if task.cancelled():
                            all_answered = False
                            waiting.appendleft(request)
                        elif error := task.exception():
                            all_answered = False
                            self._note_failure(server, request, error, results)
                            waiting.append(request)
                        else:
                            completions, rest = task.result()
                            has_answered = True
                            # What was begun before the last failure says nothing of the time after it.
                            if request.started >= server.failed_at:
                                server.num_failed = 0
                            results.put((request.row, completions))
                            waiting.extendleft(_Request(row) for row in reversed(rest))
                    if all_answered:
                        continue
                    self._require_alive()
                    for task, (_, server) in asked.items():
                        if server.is_dropped:
                            task.cancel()
                    given_up += [request for request in waiting if request.tried.issuperset(self.alive)]
                    waiting = deque(request for request in waiting if not request.tried.issuperset(self.alive))
                    refused = [request for request in given_up if isinstance(request.error, RefusedError)]
                    if not has_answered and (len(refused) >= _MOST_REFUSALS or (refused and not (waiting or asked))):
                        raise RefusedError(str(refused[0].error))
            finally:
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
        if refused := [request for request in given_up if isinstance(request.error, RefusedError)]:
            row = refused[0].row
            raise ValueError(
                f"{len(refused)} requests were refused and all others were answered. The first is of prompt "
                f"{row.prompt_index} with {len(row.prompt_ids)} tokens: {refused[0].error} Remove such prompts, or "
                "make them shorter."
            )
        if given_up:
            others = " while others were answered" if has_answered else ""
            raise ConnectionError(
                f"A request failed {self.options.max_failures * len(given_up[0].tried)} times{others}. The last "
                f"error: {given_up[0].error}"
            )

    def _free_server(self, request: _Request, asked: Sequence[Server]) -> Server | None:
        """Return the server with the fewest requests in flight; `asked` has one entry per request."""
        in_flight = Counter(asked)
        free = [s for s in self.alive if in_flight[s] < self.options.concurrency and s not in request.tried]
        return min(free, key=lambda server: in_flight[server], default=None)

    def _client(self, server: Server) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=server.url,
            api_key="none",
            max_retries=self.options.max_failures - 1,
            http_client=_BoundedClient(
                timeout=httpx2.Timeout(self.options.timeout, connect=10.0), follow_redirects=False
            ),
        )

    async def _ask(
        self, client: openai.AsyncOpenAI, server: Server, row: PromptRow, body: dict[str, Any]
    ) -> tuple[list[Completion], list[PromptRow]]:
        """Return what is read of an answer. The client repeats what fails; answers that are none are repeated here."""
        for attempt in range(self.options.max_failures):
            response = await client.post(
                "/completions", body=body, cast_to=httpx2.Response, options={"headers": self.headers}
            )
            try:
                return self.read(row, _json_of(response), server)
            except InvalidResponseError:
                server.num_invalid += 1
                if attempt == self.options.max_failures - 1:
                    raise
            await asyncio.sleep(min(_PAUSE * 2**attempt, _LONGEST_PAUSE))
        raise AssertionError

    def _note_failure(
        self, server: Server, request: _Request, error: BaseException, results: queue.SimpleQueue[Any]
    ) -> None:
        """Judge a server by a request that failed for good."""
        if not isinstance(error, openai.APIError | InvalidResponseError):
            raise error
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        request.tried.add(server)
        if status is not None and 300 <= status < 500 and status not in _RETRIED_STATUS:
            request.error = RefusedError(f"{server.url} refuses a request with status {status}: {_described(error)}.")
            if status not in _REFUSED_PROMPT:
                raise request.error
            return
        server.last_error = _described(error) if status is None else f"status {status}: {_described(error)}"
        request.error = ConnectionError(f"{server.url}: {server.last_error}")
        server.num_failed += 1
        server.failed_at = time.monotonic()
        # A server that cannot be reached is at fault; any other error may be that of a prompt.
        is_down = isinstance(error, openai.APIConnectionError)
        if not server.is_dropped and (is_down or server.num_failed >= _MOST_FAILED_REQUESTS):
            server.is_dropped = True
            if self.alive:
                results.put(
                    f"{server.url} is dropped after {self.options.max_failures} failures in a row "
                    f"({server.last_error}); going on with {len(self.alive)} of {len(self.servers)} servers."
                )

    def _require_alive(self) -> None:
        if not self.alive:
            errors = "".join(f"\n  {server.url}: {server.last_error}" for server in self.servers)
            raise ConnectionError(
                f"No server is left: each failed {self.options.max_failures} times in a row. Last errors:{errors}"
                "\nSee that they run; completions in the store are kept, and the same command goes on from there."
            )


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """Ends answers that take longer than a request may (the client's own limit is per read) or are too large."""

    async def send(self, request: httpx2.Request, **kwargs: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(self.timeout.read):
                response = await super().send(request, **kwargs | {"stream": True})
                content = bytearray()
                try:
                    if response.headers.get("content-encoding", "identity") != "identity":
                        raise httpx2.RemoteProtocolError("answered compressed, which was not asked for")
                    async for part in response.aiter_raw():
                        content += part
                        if len(content) > _LARGEST_ANSWER:
                            raise httpx2.RemoteProtocolError(f"answered more than {_LARGEST_ANSWER} bytes")
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"no whole answer within {self.timeout.read:g} seconds") from error
        return httpx2.Response(response.status_code, headers=response.headers, content=bytes(content), request=request)


def _json_of(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise InvalidResponseError(f"answered no JSON but {response.text[:80]!r}") from error


def _described(error: BaseException) -> str:
    """Return what went wrong, fit for a terminal: part of it is what a server says."""
    if isinstance(error, openai.APIStatusError):
        text = error.response.text
    elif isinstance(error, openai.APIConnectionError):
        text = f"{type(error.__cause__).__name__}: {error.__cause__}"
    else:
        text = str(error)
    return one_line(text, 500)
