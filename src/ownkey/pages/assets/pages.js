/* What our pages do beyond plain forms and htmx. Loaded (defer) before htmx, to hear its events.
   Everything works without it; templates ask for help with attributes.

   data-js                     of no use without script: `hidden`, which is taken away
   class="without-script"      of no use with script (a switch's Save): hidden by style
   data-show="ID"              button, aria-pressed="false": shows what is typed into that field (give it data-secret)
   data-busy="Testing… {s} s"  submit button: its words while the request runs
   data-cancel="Cancelled."    button of that form, hidden, type=button: there while the request runs; aborts it
   data-submit-on-change       form: sent as soon as one of its fields changes (switches)
   data-copy="SELECTOR"        button: copies that element's text or value; data-done="Copied" is said and shown
   data-card                   region with an id and a heading: gets the focus when a swap removed the focused element
   data-card-state="works"     in a part that a swap brings: becomes the data-state of the data-card around it
   data-say                    its text is said by the live region; "10": after 10 s of silence
   data-pause                  region: its polls stand still while it is hovered, has the focus or is out of sight
   data-age="{s} s ago"        seconds since it came; its parent, hidden, is shown after 30
   data-download               link to a file: in a frame it is followed with a ticket of one use
   data-search                 the field that / focuses, unless <body data-shortcuts="off">
   data-event="cap-changed"    in an answer: told to the page that frames us, with data-provider (see EVENTS)
   data-reopen                 link to the host for a new session: in a frame the host is asked for one first
   data-again="3"              in the head: the page comes again every 3 s
   Once in the layout: #live (role=status, hx-preserve), #session-end with a data-countdown inside, #offline (hidden),
   <body data-expires data-now> (Unix ms); in a frame's first document <meta> ownkey-bearer, -parent, -first.
   Answers of status 422 get the focus on their first field with aria-invalid="true". */
(() => {
  "use strict";
  const doc = document, root = doc.documentElement, page = window;
  const EVENTS = ["credential-saved", "credential-disconnected", "cap-changed"];
  const WARN_S = 120, ANSWER_S = 10;
  const first = (css, at = doc) => at.querySelector(css);
  const all = (css, at = doc) => [...at.querySelectorAll(css)];
  const on = (name, act, how) => doc.addEventListener(name, act, how);
  const near = (event, css) => event.target.closest?.(css);
  const reveal = (css, shown) => {
    const it = first(css);
    if (it) it.hidden = !shown;
    return it;
  };
  const take = name => {
    const it = first(`meta[name="ownkey-${name}"]`), said = it?.content ?? "";
    it?.remove();
    return said;
  };

  // --- the session

  let bearer = take("bearer"), over = false, asked = 0, endsAt = Infinity, soon = 0;
  const framed = bearer !== "", host = take("parent"), opening = take("first");
  const wish = new URLSearchParams(framed ? location.hash.slice(1) : "");

  const tell = (name, more) => {
    if (framed && host) page.parent.postMessage({type: "ownkey:" + name, ...more}, host);
  };
  const askForMore = () => { asked = Date.now(); tell("refresh-wanted", {over}); };

  /* A short session is warned of in its second half. */
  function lasts(ms) {
    endsAt = Date.now() + ms;
    soon = Math.max(soon, Math.min(WARN_S, ms / 2000));
  }

  function readEnd() {
    const {expires, now} = doc.body.dataset;
    if (expires) lasts(expires - now);
  }

  function end() {
    if (over) return;
    over = true;
    bearer = "";
    endsAt = Infinity;
    for (const request of running.values()) request.abort();
    for (const field of all("input[type=password],[data-secret]")) field.value = "";
    tell("session-expired");
    if (framed) go(location.pathname); // the server says it, and how to come back
    else location.reload();
  }

  function watchSession(now) {
    const left = Math.ceil((endsAt - now) / 1000);
    if (over || left > soon) return;
    if (left <= 0) return end();
    if (wish.get("refresh") && !asked) return askForMore();
    if (wish.get("refresh") && now - asked < 1000 * ANSWER_S) return;
    const panel = first("#session-end"), clock = first("#session-end [data-countdown]");
    if (!panel) return;
    if (clock) clock.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (!panel.hidden) return;
    panel.hidden = false;
    say(panel.textContent);
  }

  async function enter(code) {
    try {
      const given = await send("/portal/enter", {code}); // who asks decides whether what was typed may stay
      bearer = given.bearer;
      asked = soon = 0;
      lasts(given.expires_at_ms - given.now_ms);
      reveal("#session-end", false);
      if (!over && given.same) return;
      over = false;
      await go(given.same ? location.pathname + location.search : given.first, "replace");
    } catch {
      tell("error", {code: "refresh_failed"});
    }
  }

  /* Our own JSON doors. The answer, or an error with the status. */
  async function send(to, what) {
    const headers = {"content-type": "application/json", accept: "application/json"};
    if (bearer) headers.authorization = "Bearer " + bearer;
    const body = JSON.stringify(what);
    const answer = await fetch(to, {method: "POST", credentials: "omit", redirect: "error", body, headers});
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }

  // --- words and focus

  let lastSaid = "", spoke = 0;
  function say(text) {
    spoke = Date.now();
    const region = first("#live");
    if (!region) return;
    region.textContent = "";
    lastSaid = text.replace(/\s+/g, " ").trim();
    setTimeout(() => { region.textContent = lastSaid; }, 50);
  }

  function focus(it) {
    if (!it) return;
    if (!it.matches("a[href],button,input,select,textarea,[tabindex]")) it.tabIndex = -1;
    it.focus();
  }

  async function copy(button) {
    const from = first(button.dataset.copy);
    if (!from) return;
    try {
      await navigator.clipboard.writeText((from.value ?? from.textContent).trim());
    } catch {
      getSelection().selectAllChildren(from);
      if (!doc.execCommand("copy")) return;
    }
    const before = button.textContent, done = button.dataset.done;
    if (!done || before === done) return;
    say(done);
    button.textContent = done;
    setTimeout(() => { button.textContent = before; }, 2000);
  }

  // --- busy buttons

  const running = new Map(), busy = new Map();

  function begin(button) {
    if (!button || busy.has(button)) return;
    busy.set(button, {since: Date.now(), words: button.textContent});
    button.setAttribute("aria-busy", "true");
    count(button);
  }

  function count(button) {
    const {since} = busy.get(button), words = button.dataset.busy;
    if (words) button.textContent = words.replace("{s}", Math.floor((Date.now() - since) / 1000));
  }

  function finish(button) {
    const it = busy.get(button);
    if (!it) return;
    busy.delete(button);
    button.removeAttribute("aria-busy");
    if (button.dataset.busy) button.textContent = it.words;
  }

  const finishAll = within => [...busy.keys()].forEach(button => {
    if (!within || within.contains(button) || !button.isConnected) finish(button);
  });

  on("submit", event => {
    const form = event.target, button = event.submitter ?? first("button:not([type=button])", form);
    if (over || [...busy.keys()].some(it => form.contains(it))) {
      event.preventDefault();
      return event.stopImmediatePropagation();
    }
    all("[data-show][aria-pressed=true]", form).forEach(show);
    begin(button);
  }, true);

  page.addEventListener("pageshow", event => { if (event.persisted) finishAll(); });

  function show(button) {
    const field = doc.getElementById(button.dataset.show), shown = button.ariaPressed !== "true";
    if (!field) return;
    field.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", shown);
  }

  on("click", event => {
    let it;
    if ((it = near(event, "[data-show]"))) show(it);
    else if ((it = near(event, "[data-copy]"))) copy(it);
    else if (wish.get("refresh") && (it = near(event, "[data-reopen]"))) {
      event.preventDefault();
      askForMore();
    } else if ((it = near(event, "[data-cancel]"))) {
      running.get(it.closest("form"))?.abort();
      say(it.dataset.cancel);
    } else if (framed && (it = near(event, "a[data-download]"))) {
      event.preventDefault();
      download(it.getAttribute("href"));
    } else if (framed && !event.defaultPrevented && (it = near(event, "a[href]:not([target])"))) {
      // A link that htmx has not seen yet: followed by the browser itself it would lose the bearer.
      if (it.origin !== location.origin || it.getAttribute("href").startsWith("#")) return;
      event.preventDefault();
      go(it.pathname + it.search + it.hash);
    }
  });

  on("submit", event => {
    if (!framed || event.defaultPrevented) return;
    const {target: form, submitter} = event;
    event.preventDefault();
    finishAll(form);
    // Pressed before htmx has seen the form: sent as soon as it has, never by the browser itself.
    setTimeout(() => { if (form.matches("[data-htmx-powered]")) form.requestSubmit(submitter); }, 50);
  });

  on("change", event => near(event, "form[data-submit-on-change]")?.requestSubmit());

  on("keydown", event => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (doc.body.dataset.shortcuts === "off" || near(event, "input,select,textarea,[contenteditable]")) return;
    const field = first("[data-search]");
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });

  setInterval(() => {
    const now = Date.now();
    watchSession(now);
    for (const button of busy.keys()) count(button);
    for (const it of all("[data-age]")) {
      const s = Math.floor((now - (it._made ??= now)) / 1000);
      it.textContent = it.dataset.age.replace("{s}", s);
      it.parentNode.hidden = s < 30;
    }
  }, 1000);

  // --- htmx: its requests, and what its swaps leave behind

  let held = null;

  on("htmx:config:request", event => {
    const {ctx} = event.detail, from = ctx.sourceElement, poll = ctx.sourceEvent?.type === "every";
    const resting = poll && (doc.hidden || from.closest("[data-pause]")?.matches(":hover,:focus-within"));
    if (resting || (over && from !== doc.body)) return event.preventDefault();
    if (!framed) return;
    if (bearer) ctx.request.headers.Authorization = "Bearer " + bearer;
    ctx.request.credentials = "omit";
  });

  on("htmx:before:request", event => {
    const {ctx} = event.detail, from = ctx.sourceElement;
    running.set(from, ctx.request);
    if (from.matches("button")) begin(from);
    const cancel = from.matches("form") && first("[data-cancel]", from);
    if (cancel) cancel.hidden = false;
    ctx.slow = setTimeout(() => ctx.target?.setAttribute?.("aria-busy", "true"), 150);
  });

  on("htmx:after:request", event => {
    const {ctx} = event.detail, status = ctx.response.status;
    reveal("#offline", false);
    if (status === 401 && !over) {
      event.preventDefault();
      return end();
    }
    if (status >= 400 && ctx.sourceEvent?.type === "every") return event.preventDefault();
    if (status >= 500) tell("error", {code: "server_error"});
    // Browsers refuse `autofocus` to frames of another site, and complain.
    if (framed) ctx.text = ctx.text.replace(/(<[a-z]+\s[^<>]*)\sautofocus(?=[\s>])/g, "$1 data-focus");
    // An answer without the part that was asked for is a page of its own: it takes the whole place. So does the page
    // as it is now, where a form was older than that.
    const stale = status === 409 && ctx.select;
    const missing = stale || (ctx.select?.startsWith("#") && !ctx.text.includes(`id="${ctx.select.slice(1)}"`));
    if (missing || (!ctx.select && ctx.target !== doc.body && /^\s*<!doctype/i.test(ctx.text))) {
      Object.assign(ctx, {target: doc.body, select: null, swap: "outerSync", push: "true"});
    }
  });

  /* A refused form's address is none that could be opened: the page keeps its own, for a reload. */
  on("htmx:before:history:update", event => {
    const {sourceElement: from, response} = event.detail;
    if (response?.status >= 400 && from?.method === "post") event.preventDefault();
  });

  on("htmx:before:swap", () => {
    const active = doc.activeElement;
    const card = active?.closest?.("[data-card]")?.id;
    held = {id: active?.id, focused: active !== doc.body, card, path: location.pathname};
  });

  on("htmx:after:swap", event => {
    const {ctx} = event.detail, whole = ctx.target === doc.body, moved = held?.path !== location.pathname;
    if (whole) arrive(/data-again="(\d+)/.exec(ctx.text)?.[1]);
    enhance(!whole);
    const card = !moved && held?.card && doc.getElementById(held.card);
    const bad = first('[aria-invalid="true"]', card || doc);
    const lost = !doc.activeElement || doc.activeElement === doc.body;
    const wanted = framed && first("[data-focus]");
    if (wanted) {
      wanted.removeAttribute("data-focus");
      focus(wanted);
    } else if (ctx.response?.status === 422 && bad) focus(bad);
    else if (lost && (held?.focused || (moved && doc.hasFocus()))) {
      focus((!moved && held.id && doc.getElementById(held.id)) || first("h1,h2,h3", card || doc));
    }
    if (whole && moved) told();
  });

  on("htmx:finally:request", event => {
    const {ctx} = event.detail, from = ctx.sourceElement;
    clearTimeout(ctx.slow);
    ctx.target?.removeAttribute?.("aria-busy");
    for (const [source, request] of running) if (request === ctx.request) running.delete(source);
    const cancel = from.matches?.("form") && first("[data-cancel]", from);
    const left = cancel && cancel.contains(doc.activeElement);
    finishAll(from === doc.body ? null : from);
    if (cancel) cancel.hidden = true;
    if (left) focus(ctx.request.submitter);
  });

  on("htmx:error", () => {
    const panel = reveal("#offline", true);
    if (panel && lastSaid !== panel.textContent.replace(/\s+/g, " ").trim()) say(panel.textContent);
    tell("error", {code: "unreachable"});
  });

  /* A whole page came: its session's end, and its wish to come again, unless somebody types. */
  let again = 0;
  function arrive(after) {
    readEnd();
    clearInterval(again);
    if (after) again = setInterval(() => {
      if (!first("input:focus")) go(location.pathname + location.search, "replace");
    }, 1000 * after);
  }

  page.addEventListener("offline", () => reveal("#offline", true));
  page.addEventListener("online", () => reveal("#offline", false));

  async function go(to, how = "push") {
    const [path, anchor] = to.split("#");
    await page.htmx?.ajax("GET", path, {target: doc.body, swap: "outerSync", [how]: "true"});
    if (anchor) doc.getElementById(anchor)?.scrollIntoView();
  }

  // --- a frame

  const where = () => ({page: location.pathname.split("/")[2] ?? "", path: location.pathname});
  const told = () => tell("navigate", where());
  const height = () => Math.ceil(doc.body.getBoundingClientRect().bottom + page.scrollY);

  async function download(href) {
    try {
      const {url} = await send("/portal/tickets", {path: href});
      location.assign(url);
    } catch (error) {
      if (error.message === "401") end();
      else tell("error", {code: "download_failed"});
    }
  }

  page.addEventListener("message", event => {
    const {data} = event;
    if (!framed || !host || event.source !== page.parent || event.origin !== host || typeof data !== "object") return;
    if (data?.type === "ownkey:set-theme" && /^(auto|light|dark)$/.test(data.theme)) root.dataset.theme = data.theme;
    if (data?.type === "ownkey:set-page" && /^[\w/-]+$/.test(data.page)) go("/portal/" + data.page);
    if (data?.type === "ownkey:set-session" && /^[\w-]{16,200}$/.test(data.code)) enter(data.code);
  });

  if (framed) {
    root.dataset.mode = "frame";
    if (/^(auto|light|dark)$/.test(wish.get("theme"))) root.dataset.theme = wish.get("theme");
    const wanted = wish.get("page") ?? "";
    const start = /^[\w/-]+$/.test(wanted) ? "/portal/" + wanted : opening || "/portal";
    history.replaceState(null, "", start.split("#")[0]);
    root.setAttribute("hx-boost:inherited", "swap:outerSync");
    on("DOMContentLoaded", async () => {
      if (page.htmx) await go(start, "replace");
      else reveal("[data-loading]", false);
      new ResizeObserver(() => tell("resize", {height: height()})).observe(doc.body);
      tell("ready", {...where(), height: height()});
    });
  }

  // --- every page, and every part that a swap brings

  const known = new WeakSet();

  function enhance(part) {
    for (const it of all("[data-js][hidden]:not([data-cancel])")) it.hidden = false;
    for (const it of all("[data-say]")) {
      if (fresh(it) && Date.now() - spoke >= 1000 * it.dataset.say) say(it.textContent);
    }
    for (const it of all("[data-card-state]")) {
      if (fresh(it) && part) it.closest("[data-card]").dataset.state = it.dataset.cardState;
    }
    for (const it of all("[data-event]")) {
      const {event, provider} = it.dataset;
      if (EVENTS.includes(event) && fresh(it.firstChild ?? it)) tell(event, provider ? {provider} : {});
    }
  }

  const fresh = it => !known.has(it) && known.add(it) && true;

  root.dataset.script = "";
  on("DOMContentLoaded", () => {
    arrive(first("[data-again]")?.dataset.again);
    enhance();
    focus(first('[aria-invalid="true"]'));
  });
})();
