"""
Work spread over OpenAI-compatible servers that may fail: one `openai.AsyncOpenAI` client per server.

The client retries, waits as long as a `Retry-After` asks, and times out. What is left to do here: who asks which
server, what becomes of the work of a server that fails for good, and answers that are none, too large or without end.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from ..text import printable
from .batching import PromptRow
from .completions import Completion


# A server that answers nothing else meanwhile is dropped after so many requests that failed for good.
_MOST_FAILED_REQUESTS = 3
# Refusals before any answer, from which on the requests are taken to be wrong, and not some of the prompts.
_MOST_REFUSALS = 3
_REFUSED_PROMPT = {400, 413, 422}
_LARGEST_ANSWER = 64 * 2**20

Prepared = tuple[PromptRow, dict[str, Any], list[PromptRow]]
Prepare = Callable[[PromptRow, "Server"], Prepared]
Read = Callable[[PromptRow, Any, "Server"], tuple[list[Completion], list[PromptRow]]]


class InvalidResponseError(Exception):
    """An answer that is none: no JSON, or not of the expected form."""


@dataclass(eq=False)
class Server:
    """A server, by the URL of its API, and how it has been doing."""

    url: str
    most_choices: int | None = None  # completions that a request to it returns at most, once that is known
    num_invalid: int = 0  # answers of it that were none
    num_in_flight: int = 0
    num_failed: int = 0  # requests that failed for good since one that was begun after the last of them was answered
    failed_at: float = 0.0
    last_error: str = ""
    is_dropped: bool = False


@dataclass(eq=False)
class _Request:
    row: PromptRow
    tried: set[Server] = field(default_factory=set)  # where it failed for good
    sent_to: Server | None = None
    started: float = 0.0
    is_refused: bool = False


class ServerPool:
    """
    Complete rows by whichever server is free.

    `urls` are those of the servers' APIs, `concurrency` the requests in flight per server, `timeout` the seconds until
    an attempt counts as failed, `max_failures` the attempts of a request at a server.
    """

    def __init__(
        self, urls: Sequence[str], *, concurrency: int, timeout: float, max_failures: int, api_key: str | None = None
    ):
        self.servers = [Server(url) for url in urls]
        if not self.servers:
            raise ValueError("There is no server. Name one, e.g. `base_urls=['http://127.0.0.1:8000']`.")
        if concurrency < 1 or max_failures < 1:
            raise ValueError(
                f"`concurrency` is {concurrency} and `max_failures` is {max_failures}: both must be at least 1."
            )
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_failures = max_failures
        self.api_key = api_key

    @property
    def alive(self) -> list[Server]:
        """The servers that have not been dropped."""
        return [server for server in self.servers if not server.is_dropped]

    def run(self, rows: Sequence[PromptRow], prepare: Prepare, read: Read) -> Iterator[tuple[PromptRow, list[Completion]]]:
        """
        Yield rows with their completions, as they come; rows in the order in which they shall be begun.

        `prepare` makes of a row and a server the row that is sent to it, its JSON body, and what is left for others;
        `read` makes of the row, the JSON answer and the server the completions and what is left of the row, or raises
        [`InvalidResponseError`].

        Raises, after all other rows were answered, ValueError for prompts that every server refuses and
        ConnectionError for those that fail everywhere; at once where no server is left, or all requests are refused.
        """
        self._require_alive()
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._answer_all([_Request(row) for row in rows], prepare, read, results))

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

    async def _answer_all(
        self, requests: list[_Request], prepare: Prepare, read: Read, results: queue.SimpleQueue[Any]
    ) -> None:
        waiting, given_up = deque(requests), list[_Request]()
        asked: dict[asyncio.Task[Any], tuple[_Request, Server]] = {}
        has_answered = False
        async with AsyncExitStack() as stack:
            clients = {server: await stack.enter_async_context(self._client(server)) for server in self.alive}
            try:
                while waiting or asked:
                    while waiting and (server := self._free_server(waiting[0])):
                        request = waiting.popleft()
                        request.row, body, rest = prepare(request.row, server)
                        waiting.extendleft(_Request(row) for row in reversed(rest))
                        request.started = time.monotonic()
                        server.num_in_flight += 1
                        task = asyncio.create_task(self._ask(clients[server], server, request, body, read))
                        asked[task] = request, server
                    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        request, server = asked.pop(task)
                        server.num_in_flight -= 1
                        if task.cancelled():
                            waiting.appendleft(request)
                        elif error := task.exception():
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
                    self._require_alive()
                    for task, (_, server) in asked.items():
                        if server.is_dropped:
                            task.cancel()
                    given_up += [request for request in waiting if not set(self.alive) - request.tried]
                    waiting = deque(request for request in waiting if set(self.alive) - request.tried)
                    if not has_answered and (len(given_up) >= _MOST_REFUSALS or not (waiting or asked)):
                        _raise_what_was_refused(given_up)
            finally:
                for task, (_, server) in asked.items():
                    task.cancel()
                    server.num_in_flight -= 1
                await asyncio.gather(*asked, return_exceptions=True)
