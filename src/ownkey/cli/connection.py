"""How a command reaches the product: always its HTTP API, wherever it runs.

OWNKEY_URL and OWNKEY_TOKEN name a server. Else a server that runs on this data directory has left its address and
this boot's operator token in `run.json`. Else the same application is built in this process, under the database's
lock, and answered through memory.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from ownkey.cli.option_names import in_options
from ownkey.cli.problems import CliError
from ownkey.cli.run_file import read_run_file
from ownkey.cli.start import START_ERRORS, start_problem
from ownkey.cli.upgrades import UpgradeShown
from ownkey.settings.environment import read_environment
from ownkey.settings.product import Settings, load_settings
from ownkey.settings.tables import SettingsError

T = TypeVar("T")

TIMEOUT_S = 60.0
TYPOS = frozenset({"invalid_value", "unknown_provider"})
"""The API's codes for a value that cannot be meant: what was typed is corrected, not tried again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server to talk to. `what` says which one, for messages."""

    url: str
    token: str
    what: str

    def __repr__(self) -> str:
        return f"Place(url={self.url!r}, token=***)"


def segment(value: str) -> str:
    """A value as one path segment."""
    return quote(value, safe="")


class Connection:
    """Requests, one after the other. Use as a context manager."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._runner = asyncio.Runner()
        self._client: httpx.AsyncClient | None = None
        self._built: Any = None
        self.where = ""

    def __enter__(self) -> Self:
        try:
            self._connect()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def get(self, path: str, **params: Any) -> Any:
        return self.request("GET", path, params=params)

    def manage(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """One request to the management API. Raises CliError with the server's own words."""
        return self.request(method, f"/manage/v1{path}", body=body, params=params)

    def request(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        assert self._client is not None
        query = {name: _text(value) for name, value in (params or {}).items() if value is not None}
        try:
            answer = self._run(self._client.request(method, path, json=body, params=query, headers=dict(headers or {})))
        except httpx.HTTPError as error:
            raise CliError(
                f"{self.where} does not answer ({type(error).__name__}).",
                "Check that `ownkey serve` runs, and the address in OWNKEY_URL.", code="unreachable",
            ) from error
        return _read(answer, self.where)

    def fetch(self, path: str, write: Callable[[bytes], object], **params: Any) -> None:
        """A file of the management API, as it comes. Raises CliError with the server's own words."""
        query = {name: _text(value) for name, value in params.items() if value is not None}
        try:
            self._run(self._fetch(f"/manage/v1{path}", query, write))
        except httpx.HTTPError as error:
            raise CliError(
                f"{self.where} stopped sending ({type(error).__name__}).", "Try again.", code="unreachable"
            ) from error

    async def _fetch(self, path: str, query: Mapping[str, str], write: Callable[[bytes], object]) -> None:
        assert self._client is not None
        async with self._client.stream("GET", path, params=query) as answer:
            if not answer.is_success:
                await answer.aread()
                _read(answer, self.where)
            async for data in answer.aiter_bytes():
                write(data)

    @property
    def is_local(self) -> bool:
        """Whether this process itself is the server, for as long as the command takes."""
        return self._built is not None

    def do_work(self) -> None:
        """Where no server runs, this process does the long work itself."""
        if self._built is not None and self._built.work is not None:
            self._run(self._built.work.run_due())

    def wait(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _connect(self) -> None:
        place = named_place(self._environ)
        if place is None:
            settings = read_settings(self._environ)
            place = running_place(settings.server.data_dir)
            if place is None or not self._answers(place):
                self._build(settings)
                return
        self._client = self._make_client(place.url, place.token, None)
        self.where = place.what

    def _answers(self, place: Place) -> bool:
        """Whether the process that left run.json is still there; a crash leaves the file behind."""
        async def ask() -> bool:
            async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
                try:
                    return (await client.get(f"{place.url}/healthz")).status_code == 200
                except httpx.HTTPError:
                    return False

        return self._run(ask())

    def _build(self, settings: Settings) -> None:
        from ownkey.bootstrap import build_app

        try:
            with UpgradeShown() as told:
                self._built = self._run(build_app(settings, self._environ, told))
        except START_ERRORS as error:
            raise start_problem(error, settings) from error
        transport = httpx.ASGITransport(app=self._built.asgi)
        host = next(iter(settings.server.allowed_hosts), "localhost")
        self._client = self._make_client(f"http://{host}", self._built.operator_token, transport)
        self.where = f"the database in {settings.server.data_dir}"

    def _make_client(self, url: str, token: str, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=TIMEOUT_S, trust_env=False,
            transport=transport,
        )

    def _close(self) -> None:
        try:
            if self._client is not None:
                self._run(self._client.aclose())
            if self._built is not None:
                self._run(self._built.aclose())
        finally:
            self._runner.close()


def named_place(environ: Mapping[str, str]) -> Place | None:
    """The server that the environment names. Raises CliError for half a name."""
    try:
        found = read_environment(environ)
    except SettingsError as error:
        raise CliError(str(error), "Correct it; `ownkey env` lists all variables.", code="config") from error
    if found.url is None and found.token is None:
        return None
    if found.url is None or found.token is None:
        missing = "OWNKEY_URL" if found.url is None else "OWNKEY_TOKEN"
        raise CliError(f"{missing} is not set, but the other of the two is.",
                       "Set both OWNKEY_URL and OWNKEY_TOKEN to use another server, or neither.", code="config")
    if not found.url.startswith(("http://", "https://")):
        raise CliError("OWNKEY_URL is not a web address.", "Write it as https://ownkey.example.com.", code="config")
    return Place(found.url, found.token, f"The server at {found.url}")


def running_place(data_dir: Path) -> Place | None:
    """The server that runs on this data directory, if it left a note."""
    note = read_run_file(data_dir)
    return None if note is None else Place(note.url, note.token, f"The server at {note.url}")


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The configuration. Raises CliError with what is wrong and what to do."""
    try:
        return load_settings(None, environ)
    except SettingsError as error:
        fix = "Correct ownkey.toml, or set OWNKEY_CONFIG to the right file."
        if "no configuration file" in str(error):
            fix = "If there is one elsewhere, go there, or set OWNKEY_CONFIG to it."
        raise CliError(str(error), fix, code="config") from error


def _read(answer: httpx.Response, where: str) -> Any:
    try:
        value = answer.json()
    except ValueError as error:
        raise CliError(f"{where} answered {answer.status_code} without JSON.",
                       "Check that OWNKEY_URL is the address of an Ownkey server.", code="unreachable") from error
    if answer.is_success:
        return value
    error_body = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error_body, dict):
        raise CliError(f"{where} answered {answer.status_code}.", "See the server's log.", code="unreachable")
    fix = error_body.get("fix") or {}
    fix = fix if isinstance(fix, dict) else {"text": str(fix)}
    more = {name: error_body[name] for name in ("param", "retry_after_s", "details", "id", "receipt")
            if error_body.get(name) is not None}
    if fix.get("url"):
        more["url"] = fix["url"]
    raise CliError(
        in_options(str(error_body.get("message", "The request was refused."))), in_options(str(fix.get("text") or "")),
        code=str(error_body.get("code", "refused")), exit_code=2 if error_body.get("code") in TYPOS else 1, more=more,
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
