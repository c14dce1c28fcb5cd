"""
Requests to one or several HTTP servers that may fail.

Responsible for bounded concurrency, retries, waiting as long as a server asks for, and servers that die: these are
dropped, and their requests go to the others. A server is judged by what it does, not by what it says of itself: it is
dead when nothing but errors came back for several rounds.

Refuses to know what is asked. The client is `httpx2`, which huggingface_hub brings along: the `openai` package retries
too, but against one server, and which request goes where is what this module is about.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx2


RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")

# Answers that another attempt may not get: the server is there, but not now, or not for this client.
_RETRIED_STATUS = {408, 409, 425, 429}
_LONGEST_PAUSE = 60.0


class NonsenseError(Exception):
    """An answer that is none: no JSON, or not of the expected form."""


class RefusedError(Exception):
    """A request that is wrong: another attempt or server would refuse it too."""


@dataclass(eq=False)
class Server:
    """
    A server and how it has been doing.

    Args:
        url (`str`): Where requests are posted.

    Attributes:
        failures (`int`):
            Rounds of failures since a request that was begun after the last of them succeeded; requests that were in
            flight together count once.
        num_nonsense (`int`): Answers of it that were none.
        most_choices (`int`, *optional*): How many completions a request to it returns at most, once that is known.
    """

    url: str
    failures: int = 0
    num_nonsense: int = 0
    most_choices: int | None = None
    last_error: str = ""
    failed_at: float = 0.0
    ready_at: float = 0.0
    num_in_flight: int = 0


@dataclass
class _Outcome:
    server: Server
    request: Any
    attempts: int
    started: float
    response: httpx2.Response | None = None
    error: Exception | None = None


class ServerPool(Generic[RequestT, ResultT]):
    """
    Answer requests by whichever server is free.

    Args:
        urls (`Iterable[str]`):
            Where requests are posted, one URL per server.
        concurrency (`int`):
            Requests in flight per server.
        timeout (`float`):
            Seconds until a request counts as failed.
        max_failures (`int`):
            Rounds of failures in a row after which a server is dropped; and, times the number of servers, attempts
            after which a request is given up.
        backoff (`float`):
            Seconds of pause after the first failure; doubled with each, unless the server says how long.
        headers (`dict[str, str]`, *optional*):
            Sent with every request.

    Raises:
        ValueError: If there is no server, or a limit is below 1.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        concurrency: int,
        timeout: float,
        max_failures: int,
        backoff: float,
        headers: dict[str, str] | None = None,
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
        self.backoff = backoff
        self.headers = headers

    @property
    def alive(self) -> list[Server]:
        """The servers that have not been dropped."""
        return [server for server in self.servers if server.failures < self.max_failures]

    def run(
        self,
        requests: Iterable[RequestT],
        prepare: Callable[[RequestT, Server], tuple[RequestT, dict[str, Any], list[RequestT]]],
        read: Callable[[RequestT, Any, Server], tuple[ResultT, list[RequestT]]],
    ) -> Iterator[tuple[RequestT, ResultT]]:
        """
        Answer all requests.

        Args:
            requests (`Iterable`):
                What is asked, in the order in which it shall be begun.
            prepare (`Callable`):
                From a request and a server to the request that is sent to it, its JSON body, and what is left of the
                request for others.
            read (`Callable`):
                From a request, the JSON answer and the server to the result and what is left of the request; raises
                [`NonsenseError`] at an answer that is none.

        Yields:
            `tuple`: request and result, as they come

        Raises:
            ConnectionError: If all servers have been dropped, or one request fails again and again.
            RefusedError: If a server refuses a request as wrong.
        """
        waiting = deque((request, 0) for request in requests)
        outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        num_in_flight = 0
        self._require_alive()
        with httpx2.Client(timeout=httpx2.Timeout(self.timeout, connect=10.0), headers=self.headers) as client:
            while waiting or num_in_flight:
                while waiting and (server := self._free_server()):
                    whole, attempts = waiting.popleft()
                    request, body, rest = prepare(whole, server)
                    waiting.extendleft((request, 0) for request in reversed(rest))
                    outcome = _Outcome(server, request, attempts, time.monotonic())
                    self._post(client, body, outcome, outcomes)
                    num_in_flight += 1
                try:
                    outcome = outcomes.get(timeout=self._pause() if waiting else None)
                except queue.Empty:
                    continue
                num_in_flight -= 1
                outcome.server.num_in_flight -= 1
                try:
                    result, rest = read(outcome.request, _json_of(outcome), outcome.server)
                except (httpx2.HTTPError, NonsenseError) as error:
                    outcome.server.num_nonsense += isinstance(error, NonsenseError)
                    attempts = outcome.attempts + self._note_failure(outcome, error)
                    self._require_alive()
                    if attempts >= self.max_failures * len(self.servers):
                        raise ConnectionError(
                            f"A request failed {attempts} times while others were answered. The last error: "
                            f"{outcome.server.url}: {outcome.server.last_error}"
                        ) from error
                    waiting.appendleft((outcome.request, attempts))
                    continue
                # What was begun before the last failure says nothing of the time after it.
                if outcome.started >= outcome.server.failed_at:
                    outcome.server.failures = 0
                waiting.extendleft((request, 0) for request in reversed(rest))
                yield outcome.request, result

    def _free_server(self) -> Server | None:
        now = time.monotonic()
        free = [s for s in self.alive if s.num_in_flight < self.concurrency and s.ready_at <= now]
        # A server that fails is tried with one request at a time.
        free = [s for s in free if not s.failures or not s.num_in_flight]
        return min(free, key=lambda server: server.num_in_flight, default=None)

    def _pause(self) -> float | None:
        """Return the seconds until a server can be sent more; `None` if answers must come first."""
        now = time.monotonic()
        idle = [max(0.0, server.ready_at - now) for server in self.alive if not server.num_in_flight]
        return min(idle) if idle else None

    def _post(
        self,
        client: httpx2.Client,
        body: dict[str, Any],
        outcome: _Outcome,
        outcomes: queue.SimpleQueue[_Outcome],
    ) -> None:
        def post() -> None:
            try:
                outcome.response = client.post(outcome.server.url, json=body)
            except Exception as error:
                outcome.error = error
            outcomes.put(outcome)

        outcome.server.num_in_flight += 1
        # Daemons: whoever interrupts a run does not wait for answers that nobody will read.
        threading.Thread(target=post, daemon=True).start()

    def _note_failure(self, outcome: _Outcome, error: Exception) -> bool:
        """Judge the server; returns whether the failure counts."""
        server, now = outcome.server, time.monotonic()
        server.last_error = _described(error)
        # Requests that were in flight together fail together, and say no more than one of them.
        if outcome.started < server.failed_at:
            return False
        server.failures += 1
        server.failed_at = now
        pause = _asked_pause(outcome.response)
        pause = self.backoff * 2 ** (server.failures - 1) if pause is None else pause
        server.ready_at = now + min(pause, _LONGEST_PAUSE)
        if server.failures >= self.max_failures and self.alive:
            warnings.warn(
                f"{server.url} is dropped after {server.failures} failures in a row ({server.last_error}); going on "
                f"with {len(self.alive)} of {len(self.servers)} servers.",
                UserWarning,
                stacklevel=2,
            )
        return True

    def _require_alive(self) -> None:
        if not self.alive:
            errors = "".join(f"\n  {server.url}: {server.last_error}" for server in self.servers)
            raise ConnectionError(
                f"No server is left: each failed {self.max_failures} times in a row. Their last errors:{errors}\nSee "
                "that they run; completions in the store are kept, and the same command goes on from there."
            )


def _json_of(outcome: _Outcome) -> Any:
    """Return the JSON of a response, or raise what is wrong with it."""
    if outcome.error is not None:
        raise outcome.error
    response = outcome.response
    assert response is not None
    if 400 <= response.status_code < 500 and response.status_code not in _RETRIED_STATUS:
        raise RefusedError(
            f"{outcome.server.url} refuses a request with status {response.status_code}: {response.text[:500]}."
        )
    if response.status_code != 200:
        raise httpx2.HTTPStatusError(
            f"status {response.status_code}: {response.text[:200]}", request=response.request, response=response
        )
    try:
        return response.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NonsenseError(f"answered no JSON but {response.text[:80]!r}") from error


def _described(error: Exception) -> str:
    return (
        str(error) if isinstance(error, NonsenseError | httpx2.HTTPStatusError) else f"{type(error).__name__}: {error}"
    )


def _asked_pause(response: httpx2.Response | None) -> float | None:
    """Return the seconds of a `Retry-After` header; dates are left to the backoff."""
    value = "" if response is None else response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
