"""The main job in front of your eyes: this product beside the provider emulator, used as a host product would.

Everything goes through public doors: `ownkey init`, `ownkey serve`, the management API, and the official `openai`
package. The emulator, the mailbox and the host product's site are processes of their own, and the only place where they
are switched on is here.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from ownkey.cli.demo_purchase import KEY, buy_addon, miss_a_payment, open_till
from ownkey.cli.problems import CliError
from ownkey.domain.money import format_usd, parse_usd_nusd

START_S = 30.0
MAIL_S = 20.0
PROVIDERS = {
    "openrouter": "/openrouter/api/v1", "openai": "/openai/v1", "anthropic": "/anthropic/v1",
    "google": "/google/v1beta",
}
DEMO_KEYS = {
    "openrouter": "sk-or-v1-" + "0d" * 32, "anthropic": "sk-ant-api03-" + "demo" * 10,
    "platform": "sk-or-v1-" + "1f" * 32,
}
TICKET = "Hello, I was charged twice for November and nobody answers. Please help, this is urgent!"


class Story(NamedTuple):
    """Who plays: the host product, and the customer of it whose workspace it is. Every page and e-mail says so."""

    product: str
    workspace: str


STORIES: Mapping[str, Story] = {
    "support-desk": Story("Lantern Desk", "Acme"), "app-builder": Story("Pocket Forge", "Greta's workshop"),
}


@dataclass
class Stage:
    """The processes and the doors to them. `mailbox` is where e-mails and the host's events can be looked at, `host`
    the host product's own site, which has the portal inside; `till` the card processor, where cards are taken."""

    console: Console
    home: Path
    preset: str
    url: str
    emulator: str
    mailbox: str
    host: str
    operator: str
    http: httpx.Client
    till: str = ""

    def manage(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(
            method, f"{self.url}/manage/v1/{path}", json=body, headers={"authorization": f"Bearer {self.operator}"}
        )
        if answer.status_code >= 300:
            raise CliError(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}", "This is a bug.")
        return answer.json()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        return self.http.request(method, f"{self.emulator}/_control/{path}", json=body).json()

    def mails(self) -> list[dict[str, Any]]:
        """What has arrived in the mailbox, oldest first."""
        found: list[dict[str, Any]] = self.http.get(f"{self.mailbox}/api/mails").json()["mails"]
        return found

    def tell_host(self, what: dict[str, Any]) -> None:
        """Where Ownkey is, and what the host's backend shows it."""
        answer = self.http.post(f"{self.host.replace('//localhost:', '//127.0.0.1:')}/_control", json=what)
        if answer.status_code != 200:
            raise CliError(f"The host product answered {answer.status_code}: {answer.text[:300]}", "This is a bug.")

    def scene(self, title: str) -> None:
        self.console.print()
        self.console.print(f"[bold]── {escape(title)}[/bold]")

    def say(self, text: str) -> None:
        indent = len(text) - len(text.lstrip())
        self.console.print(Padding(escape(text.lstrip()), (0, 0, 0, indent)))

    def receipt(self, workspace: str, receipt_id: str) -> dict[str, Any]:
        """Print a call's receipt in words."""
        why = self.manage("GET", f"workspaces/{workspace}/receipts/{receipt_id}/why")["why"]
        self.console.print(f"  [dim]receipt {receipt_id}[/dim]")
        self.console.print(Padding(f"[green]{escape(why)}[/green]", (0, 0, 0, 2)))
        found: dict[str, Any] = self.manage("GET", f"workspaces/{workspace}/receipts/{receipt_id}")
        return found


@dataclass
class Caller:
    """A workspace's own side: the official SDK with an Ownkey token."""

    stage: Stage
    workspace: str
    token: str

    def client(self) -> Any:
        import openai

        return openai.OpenAI(
            api_key=self.token, base_url=self.stage.url + "/v1", max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )

    def classify(self, task: str) -> None:
        """A classification with a JSON schema."""
        schema = {
            "type": "object", "additionalProperties": False, "required": ["category", "urgent"],
            "properties": {"category": {"type": "string", "enum": ["billing", "bug", "question"]},
                           "urgent": {"type": "boolean"}},
        }
        raw = self.client().chat.completions.with_raw_response.create(
            model=f"task:{task}", messages=[{"role": "user", "content": TICKET}],
            response_format={
                "type": "json_schema", "json_schema": {"name": "triage", "schema": schema, "strict": True}
            },
            extra_headers={"x-ownkey-conversation": "ticket-1"},
        )
        self.stage.say(f"  answer: {raw.parse().choices[0].message.content}")
        self.stage.receipt(self.workspace, raw.headers["x-ownkey-receipt"])

    def stream(self, task: str, prompt: str, project: str = "") -> dict[str, Any]:
        """A streamed reply, printed as it comes."""
        labels = {"x-ownkey-project": project} if project else {"x-ownkey-conversation": "ticket-1"}
        raw = self.client().chat.completions.with_raw_response.create(
            model=f"task:{task}", messages=[{"role": "user", "content": prompt}], stream=True, max_tokens=60,
            extra_headers=labels,
        )
        self.stage.console.print("  answer: ", end="")
        for chunk in raw.parse():
            if chunk.choices and chunk.choices[0].delta.content:
                self.stage.console.print(escape(chunk.choices[0].delta.content), end="", soft_wrap=True)
        self.stage.console.print()
        return self.stage.receipt(self.workspace, raw.headers["x-ownkey-receipt"])

    def embed(self, task: str) -> None:
        raw = self.client().embeddings.with_raw_response.create(
            model=f"task:{task}", input="Why was I charged twice?", extra_headers={"x-ownkey-conversation": "ticket-1"}
        )
        vector = raw.parse().data[0].embedding
        self.stage.say(f"  answer: a vector of {len(vector)} numbers, from {raw.parse().model}")
        self.stage.receipt(self.workspace, raw.headers["x-ownkey-receipt"])

    def refused(self, task: str, body: dict[str, Any] | None = None) -> None:
        """A call that is refused: prints code, sentence and fix, and the receipt that it leaves all the same."""
        import openai

        try:
            self.client().chat.completions.create(**(body or small_body(task)))
        except openai.APIStatusError as error:
            said: Any = error.body
            self.stage.console.print(f"  [yellow]{error.status_code} {escape(str(said['code']))}[/yellow]")
            self.stage.receipt(self.workspace, said["receipt"])
            self.stage.say(f"  fix: {said['fix']['text']}")
            return
        raise CliError("A call was answered that should have been refused.", "This is a bug; please report it.")


def run_demo(preset: str, *, once: bool, console: Console) -> None:
    """Play the whole story; then stay until interrupted, unless `once`."""
    home = Path(tempfile.mkdtemp(prefix="ownkey-demo-"))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with _stage(home, preset, console) as stage:
            console.print(f"[bold]Ownkey demo[/bold], preset {preset}: Ownkey at {stage.url}, "
                          f"provider emulator at {stage.emulator}, mailbox at {stage.mailbox}")
            stage.say(f"The host product is {STORIES[preset].product}; its customer is {STORIES[preset].workspace}.")
            caller = _support_desk(stage) if preset == "support-desk" else _app_builder(stage)
            _balance(stage)
            if not once:
                _stay(stage, caller)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _interrupt(number: int, frame: object) -> None:
    """However the demo is ended, its two processes and its folder end with it."""
    raise KeyboardInterrupt


# --- the two stories


def _support_desk(stage: Stage) -> Caller:
    stage.scene("A workspace without a key: no AI feature works, and the refusal says what to do")
    caller = _make_workspace(stage, STORIES[stage.preset].workspace)
    caller.refused("auto_triage")

    stage.scene("The admin pastes an OpenRouter key: Test, then Save")
    stage.control("POST", "keys", {"provider": "openrouter", "key": DEMO_KEYS["openrouter"]})
    base = f"workspaces/{caller.workspace}/credentials"
    stage.say("  " + stage.manage("POST", f"{base}/openrouter/test", {"key": DEMO_KEYS["openrouter"]})["sentence"])
    stage.say("  " + stage.manage("PUT", f"{base}/openrouter", {"key": DEMO_KEYS["openrouter"]})["message"])

    stage.scene("A classification: fast and cheap, with a JSON schema")
    caller.classify("auto_triage")
    stage.scene("A draft reply, streamed")
    caller.stream("draft_reply", TICKET)
    stage.scene("An embedding for the knowledge base")
    caller.embed("knowledge")

    stage.scene("A direct Anthropic key saves OpenRouter's fee: it is tried first")
    stage.control("POST", "keys", {"provider": "anthropic", "key": DEMO_KEYS["anthropic"]})
    stage.say("  " + stage.manage("PUT", f"{base}/anthropic", {"key": DEMO_KEYS["anthropic"]})["message"])
    caller.stream("draft_reply", TICKET)

    stage.scene("Anthropic is overloaded: the same call goes on through OpenRouter, before you have seen a word")
    stage.control("POST", "faults", {"match": {"provider": "anthropic"}, "times": 1, "fault": "overloaded"})
    caller.stream("draft_reply", TICKET)

    _cap_scenes(stage, caller, "auto_triage")
    meter = stage.manage("GET", f"workspaces/{caller.workspace}/conversations/ticket-1/meter")
    stage.scene("What this ticket has cost so far")
    stage.say(f"  {meter['calls']} calls, US${meter['cost_usd']}")
    return caller


def _app_builder(stage: Stage) -> Caller:
    stage.scene("The platform has its own OpenRouter key; a new workspace starts with free credits")
    stage.control("POST", "keys", {"provider": "openrouter", "key": DEMO_KEYS["platform"]})
    stage.say("  " + stage.manage("PUT", "platform/credentials/openrouter", {"key": DEMO_KEYS["platform"]})["message"])
    caller = _make_workspace(stage, STORIES[stage.preset].workspace)
    _say_status(stage, caller)

    stage.scene("Without an own key, credits pay")
    caller.classify("explain_error")
    caller.stream("name_project", "Name an app that counts pelicans.")

    buy_addon(stage, caller, _show_mails)
    stage.scene("Connect: the key is pasted and saved")
    stage.control("POST", "keys", {"provider": "openrouter", "key": DEMO_KEYS["openrouter"]})
    base = f"workspaces/{caller.workspace}/credentials"
    stage.say("  " + stage.manage("PUT", f"{base}/openrouter", {"key": DEMO_KEYS["openrouter"]})["message"])
    _say_status(stage, caller)

    stage.scene("Connected: the own key pays, and no credit moves")
    caller.stream("edit_code", "Make the pelican counter count backwards.", project="pelicans")

    stage.scene("The key runs out of funds at OpenRouter: credits step in, because this workspace allows it")
    stage.control("POST", "faults", {"match": {"provider": "openrouter", "key": DEMO_KEYS["openrouter"]},
                                     "times": 1, "fault": "insufficient_quota"})
    caller.stream("explain_error", "TypeError: pelican is not iterable")
    stage.manage("POST", f"{base}/openrouter/test", {})

    stage.scene("Always use this key: on, and the key disabled. Credits are never a substitute")
    stage.manage("PATCH", f"workspaces/{caller.workspace}", {"always_use_key": True})
    stage.manage("POST", f"{base}/openrouter/disable", {})
    caller.refused("explain_error")
    stage.scene("Always use this key: off. The disabled key stays kept, and credits pay again")
    stage.manage("PATCH", f"workspaces/{caller.workspace}", {"always_use_key": False})
    caller.stream("explain_error", "TypeError: pelican is not iterable")
    stage.manage("POST", f"{base}/openrouter/enable", {})

    _cap_scenes(stage, caller, "explain_error")
    miss_a_payment(stage, caller, _show_mails)
    return caller


def _cap_scenes(stage: Stage, caller: Caller, task: str) -> None:
    stage.scene("A spend cap: calls go on while they fit, then AI pauses")
    cap = stage.manage("GET", f"workspaces/{caller.workspace}/cap")
    before = int(cap["spent_nusd"])
    caller_quietly(caller, task)
    each = int(stage.manage("GET", f"workspaces/{caller.workspace}/cap")["spent_nusd"]) - before
    bound = at_most_nusd(caller, task)
    room = before + 12 * each + bound
    stage.manage("PUT", f"workspaces/{caller.workspace}/cap", {"cap_usd": format_usd(room)})
    answered = 0
    while answered < 200 and caller_quietly(caller, task) is None:
        answered += 1
    stage.say(f"  {answered} calls of up to US${format_usd(bound)} were answered; the next one:")
    caller.refused(task, small_body(task))
    now = stage.manage("GET", f"workspaces/{caller.workspace}/cap")
    stage.say(f"  spent US${now['spent_usd']} of US${now['cap_usd']}")
    stage.manage("PUT", f"workspaces/{caller.workspace}/cap", {"cap_usd": now["spent_usd"]})
    stage.say("  With the cap at what is spent, AI is paused:")
    caller.refused(task)
    _show_mails(stage, caller, "AI spend at ", "AI paused")
    stage.scene("The cap is raised: AI resumes at once")
    stage.manage("PUT", f"workspaces/{caller.workspace}/cap", {"cap_usd": "25.00"})
    caller.classify(task)
    _show_mails(stage, caller, "AI resumed")


def _show_mails(stage: Stage, caller: Caller, *about: str) -> None:
    """Wait for the e-mails of these subjects, and print what arrived: each once, in the order of its arrival."""
    alerts = stage.manage("GET", f"workspaces/{caller.workspace}/alerts")["rows"]
    told = sum(alert["state"] == "due" for alert in alerts) if len(about) > 1 else 1
    until = time.monotonic() + MAIL_S
    while True:
        mails = [mail for mail in stage.mails() if any(text in mail["subject"] for text in about)]
        if len(mails) >= told:
            break
        if time.monotonic() > until:
            raise CliError(f"{told} e-mails are due and {len(mails)} arrived.", "This is a bug; please report it.")
        time.sleep(0.05)
    for mail in mails:
        stage.say(f"  e-mail to {mail['to']}: {mail['subject']}")
    events = stage.http.get(f"{stage.mailbox}/api/events").json()["events"]
    if not all(event["verified"] for event in events):
        raise CliError("An event arrived with a wrong signature.", "This is a bug; please report it.")
    arrived = "1 e-mail has" if len(mails) == 1 else f"{len(mails)} e-mails have"
    told = "1 event, its signature" if len(events) == 1 else f"{len(events)} events, every signature"
    stage.say(f"  {arrived} arrived; the host has {told} verified")


def small_body(task: str) -> dict[str, Any]:
    """The call that is repeated against the cap."""
    return {"model": f"task:{task}", "max_tokens": 60, "messages": [{"role": "user", "content": TICKET}]}


def caller_quietly(caller: Caller, task: str) -> str | None:
    """One small call; the refusal's code, or None."""
    answer = caller.stage.http.post(
        f"{caller.stage.url}/v1/chat/completions", json=small_body(task),
        headers={"authorization": f"Bearer {caller.token}"},
    )
    return None if answer.status_code == 200 else str(answer.json()["error"]["code"])


def at_most_nusd(caller: Caller, task: str) -> int:
    """The bound of the small call, as explain tells it."""
    answer = caller.stage.http.post(
        f"{caller.stage.url}/v1/explain", json=small_body(task), headers={"authorization": f"Bearer {caller.token}"}
    ).json()
    return parse_usd_nusd(answer["attempts"][0]["at_most_usd"])


def _balance(stage: Stage) -> None:
    stage.scene("The books against the provider's invoice")
    verified = stage.manage("POST", "verify", {})
    billed = int(stage.control("GET", "bills/total")["total_nusd"])
    booked = 0
    for workspace in stage.manage("GET", "workspaces")["workspaces"]:
        receipts, more = [], ""
        while True:
            page = stage.manage("GET", f"workspaces/{workspace['id']}/receipts?limit=200{more}")
            receipts += page["receipts"]
            if page["next_before"] is None:
                break
            more = f"&before={page['next_before']}"
        booked += sum(int(receipt["cost_nusd"] or 0) for receipt in receipts)
    stage.say(f"  verify: {'clean' if verified['clean'] else verified['findings']}")
    stage.say(f"  receipts say {booked} nano-USD, the emulator's bill book says {billed}: "
              f"{'equal' if booked == billed else 'DIFFERENT'}")
    if not verified["clean"] or booked != billed:
        raise CliError("The books do not balance.", "This is a bug; please report it.")


# --- setting up and staying


def _make_workspace(stage: Stage, name: str) -> Caller:
    workspace = stage.manage("POST", "workspaces", {"name": name})["id"]
    token = stage.manage("POST", f"workspaces/{workspace}/tokens", {"label": "demo"})["token"]
    stage.manage("PUT", f"workspaces/{workspace}/members/ada", {"email": "ada@example.com", "role": "owner"})
    stage.say(f"  workspace {workspace} ({name}), with its own access token; ada@example.com owns it")
    return Caller(stage, workspace, token)


def _say_status(stage: Stage, caller: Caller) -> None:
    status = stage.manage("GET", f"workspaces/{caller.workspace}/status")
    credits = stage.manage("GET", f"workspaces/{caller.workspace}/credits")
    stage.say(f"  {status['headline']}: {status['sentence']} Balance: {credits['balance_credits']} credits.")


def _stay(stage: Stage, caller: Caller) -> None:
    service = stage.manage("POST", "service-tokens", {"label": "demo host", "scopes": ["call", "manage"]})["token"]
    story = STORIES[stage.preset]
    stage.tell_host({
        "ownkey_url": stage.url, "token": service, "workspace": caller.workspace, "preset": stage.preset,
        "product": story.product, "company": story.workspace,
    })
    invited = stage.manage("POST", "operators", {"email": "ops@example.com", "role": "ops"})
    stage.scene("Go on yourself; Ctrl-C ends everything")
    task = "auto_triage" if "auto_triage" in json.dumps(stage.manage("GET", "product")) else "explain_error"
    stage.console.print(
        f"{story.product:<13} {stage.host}   (the host product: sign in as owner, admin, member or viewer)\n"
        f"the console   {invited['url']}   (once: set a password and a code for the operator)\n"
        f"AI calls      {stage.url}/v1   (OpenRouter clients: {stage.url}/api/v1)\n"
        f"management    {stage.url}/manage/v1   (described at /manage/v1/openapi.json)\n"
        f"emulator      {stage.emulator}\n"
        f"mailbox       {stage.mailbox}   (every e-mail and event so far)\n"
        f"workspace     {caller.workspace}\n"
        f"its token     {caller.token}\n"
        f"service token {service}\n\n"
        f"curl {stage.url}/v1/chat/completions -H 'authorization: Bearer {caller.token}' "
        "-H 'content-type: application/json' "
        f"-d '{{\"model\": \"task:{task}\", \"messages\": [{{\"role\": \"user\", \"content\": \"hello\"}}]}}'\n\n"
        f"OWNKEY_URL={stage.url} OWNKEY_TOKEN={service} {sys.argv[0]} receipts --workspace {caller.workspace}",
        markup=False, soft_wrap=True, highlight=False,
    )
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


@contextlib.contextmanager
def _stage(home: Path, preset: str, console: Console) -> Iterator[Stage]:
    try:
        import openai  # noqa: F401
    except ImportError as error:
        raise CliError(
            "The demo uses the official openai package, which is not installed.", "pip install 'ownkey[demo]'"
        ) from error
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(httpx.Client(trust_env=False, timeout=60))
        emulator = _start(stack, [sys.executable, "-m", "ownkey.emulator", "--port", "0"], home, {}, subprocess.PIPE)
        assert emulator.stdout is not None
        emulator_url = json.loads(emulator.stdout.readline())["url"]
        secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        box = _start(
            stack, [sys.executable, "-m", "ownkey.emulator.mailbox", "--secret", secret], home, {}, subprocess.PIPE
        )
        assert box.stdout is not None
        mailbox = json.loads(box.stdout.readline())
        site = _start(stack, [sys.executable, "-m", "ownkey.emulator.host_site"], home, {}, subprocess.PIPE)
        assert site.stdout is not None
        host = json.loads(site.stdout.readline())["url"]
        environ = {"OWNKEY_CONFIG": str(home / "ownkey.toml"), "OWNKEY_EVENT_SECRETS": secret}
        till, billing = "", ""
        if preset == "app-builder":
            stripe = _start(stack, [sys.executable, "-m", "ownkey.emulator.stripe"], home, {}, subprocess.PIPE)
            assert stripe.stdout is not None
            till = json.loads(stripe.stdout.readline())["url"]
            billing = f'[billing]\napi_url = "{till}"\nreturn_urls = ["{host}/ai"]\n'
            environ |= {"OWNKEY_STRIPE_KEY": KEY, "OWNKEY_STRIPE_WEBHOOK_SECRETS": secret}
        subprocess.run(  # noqa: S603 - our own module, no shell, no foreign word
            [sys.executable, "-m", "ownkey.cli.main", "init", "--preset", preset, "--dir", str(home), "--json"],
            check=True, stdout=subprocess.DEVNULL, env=_environment(environ),
        )
        origins = "\n".join(f'{name} = "{emulator_url}{path}"' for name, path in PROVIDERS.items())
        (home / "ownkey.toml").write_text(
            f'preset = "{preset}"\n[product]\nname = "{STORIES[preset].product}"\n'
            f'entry_url = "{host}/ai/open?flow={{flow}}"\n'
            f'[portal]\norigins = ["{host}"]\nreturn_urls = ["{host}/ai"]\nrefresh_urls = ["{host}/ai/session"]\n'
            f"[server]\nport = 0\n[origins]\nallow_insecure = true\n{origins}\n"
            f'[mail]\nhost = "127.0.0.1"\nport = {mailbox["smtp_port"]}\ntls = "none"\n'
            f'from = "{STORIES[preset].product} <ai@example.com>"\n[events]\nurl = "{mailbox["url"]}/events"\n{billing}'
        )
        server = _start(stack, [sys.executable, "-m", "ownkey.cli.main", "serve"], home, environ, None)
        url, operator = _wait(home, server)
        stage = Stage(console, home, preset, url, emulator_url, mailbox["url"], host, operator, http, till)
        if till:
            open_till(stage, secret)
        yield stage


def _environment(more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OWNKEY_")}
    return {**kept, **more}


def _start(
    stack: contextlib.ExitStack, command: list[str], home: Path, more: dict[str, str], stdout: int | None
) -> subprocess.Popen[str]:
    log = stack.enter_context((home / "demo.log").open("a"))
    process = subprocess.Popen(  # noqa: S603 - our own modules, no shell, no foreign word
        command, stdout=stdout or log, stderr=log, text=True, cwd=home, env=_environment(more),
        start_new_session=True,
    )
    stack.callback(_stop, process)
    return process


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(home: Path, server: "subprocess.Popen[str]") -> tuple[str, str]:
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            run = json.loads((home / "data" / "run.json").read_text())
            return run["url"], run["token"]
        time.sleep(0.05)
    raise CliError("The server did not start: " + (home / "demo.log").read_text()[-500:], "Run `ownkey doctor`.")
