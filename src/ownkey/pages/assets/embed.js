/* <ownkey-portal>: the portal in a frame of a host's page. No dependencies; nothing of the page reaches the frame.

   <script src="https://OWNKEY/portal/embed/v1.js" async></script>
   <ownkey-portal session="CODE OR URL" page="credentials" theme="auto" refresh-url="/api/ownkey-session">
     <a href="/ai/keys">AI keys</a>
   </ownkey-portal>

   session      what POST …/portal-sessions (mode "frame") answered: `url`, or `code` with the origin of this script
   page         credentials, features, spend, activity, plans, projects; may change at any time
   theme        auto, light, dark; may change at any time
   refresh-url  the host's own address: POST there answers {"code": …} of a new session for the same person. It is
                asked two minutes before the end, after a reload of the frame, and when somebody presses Reopen; the
                frame then opens where they were. That is kept in memory: a reload of your page begins at `page`
   label        the frame's name for screen readers

   Events (they bubble): ownkey:ready, :resize {height}, :navigate {page, path}, :credential-saved {provider},
   :credential-disconnected {provider}, :cap-changed, :session-expired, :error {code}.
   The content is a plain link to page mode: it shows until the frame is ready, and where nothing else works.

   A message counts only if it comes from our frame's window, from the portal's exact origin, and has the shape that is
   expected; ours go to that origin alone. No message holds a credential or a bearer; a code opens once, only there. */
(() => {
  "use strict";
  if (customElements.get("ownkey-portal")) return;
  const HOME = document.currentScript ? new URL(document.currentScript.src).origin : "";
  const CODE = /^[\w-]{16,200}$/, WORD = /^[a-z][a-z_-]{0,30}$/, PATH = /^\/portal(\/[\w./-]{0,200})?$/;
  const THEMES = ["auto", "light", "dark"];
  const READY_MS = 15000;
  const SHAPES = {
    ready: data => where(data) && {page: data.page, path: data.path},
    resize: data => tall(data.height) && {height: data.height},
    navigate: data => where(data) && {page: data.page, path: data.path},
    "credential-saved": data => WORD.test(data.provider) && {provider: data.provider},
    "credential-disconnected": data => WORD.test(data.provider) && {provider: data.provider},
    "cap-changed": () => ({}),
    "session-expired": () => ({}),
    error: data => WORD.test(data.code) && {code: data.code},
  };
  const tall = height => Number.isInteger(height) && height > 0 && height < 100000;
  const where = data => typeof data.page === "string" && /^[a-z]{0,20}$/.test(data.page) && PATH.test(data.path);

  /* The address to open: {origin, code}. Throws where it is none. */
  function read(session) {
    if (CODE.test(session) && HOME) return {origin: HOME, code: session};
    const url = new URL(session, document.baseURI), code = url.searchParams.get("code") ?? "";
    if (!/^https?:$/.test(url.protocol) || url.pathname !== "/portal/enter" || !CODE.test(code)) throw new Error();
    return {origin: url.origin, code};
  }

  class OwnkeyPortal extends HTMLElement {
    static observedAttributes = ["session", "page", "theme", "refresh-url"];
    #frame = null;
    #slot = document.createElement("slot");
    #origin = "";
    #ready = false;
    #loads = 0;
    #late = 0;
    #asking = null;
    #place = "";
    #queued = false;

    constructor() {
      super();
      this.attachShadow({mode: "open"}).append(this.#slot);
    }

    connectedCallback() {
      this.style.display ||= "block";
      addEventListener("message", this.#hear);
      this.#openSoon();
    }

    disconnectedCallback() {
      removeEventListener("message", this.#hear);
      this.#close();
    }

    attributeChangedCallback(name, before, now) {
      if (!this.isConnected || before === now) return;
      if (name === "session") this.#openSoon();
      else if (name === "theme") this.#send("set-theme", {theme: this.#theme()});
      else if (name === "page") this.#turn();
    }

    /* Where the host wants to be counts from now on, also for a frame that is being opened again. */
    #turn() {
      this.#place = "";
      if (this.#page()) this.#send("set-page", {page: this.#page()});
    }

    #theme() {
      return THEMES.includes(this.getAttribute("theme")) ? this.getAttribute("theme") : "";
    }

    #page() {
      const page = this.getAttribute("page") ?? "";
      return /^[a-z]{1,20}$/.test(page) ? page : "";
    }

    /* Attributes are often set one after the other; the frame is opened once. */
    #openSoon() {
      if (this.#queued) return;
      this.#queued = true;
      queueMicrotask(() => {
        this.#queued = false;
        const session = this.getAttribute("session");
        if (!this.isConnected) return;
        if (!session) return this.#renew();
        try {
          this.#open(read(session));
        } catch {
          this.#fail("session_invalid");
        }
      });
    }

    #open({origin, code}, place = "") {
      this.#close();
      this.#place = place;
      this.#origin = origin;
      const wish = new URLSearchParams();
      if (this.#theme()) wish.set("theme", this.#theme());
      if (place || this.#page()) wish.set("page", place || this.#page());
      if (this.hasAttribute("refresh-url")) wish.set("refresh", "1");
      const frame = document.createElement("iframe");
      frame.title = this.getAttribute("label") || "AI keys and spend";
      frame.referrerPolicy = "no-referrer";
      frame.allow = "clipboard-write";
      Object.assign(frame.style, {display: "block", width: "100%", height: "0", border: "0"});
      frame.addEventListener("load", () => this.#loaded());
      frame.src = `${origin}/portal/enter?code=${encodeURIComponent(code)}#${wish}`;
      this.#frame = frame;
      this.#late = setTimeout(() => this.#fail("not_loaded"), READY_MS);
      this.shadowRoot.append(frame);
    }

    #close() {
      clearTimeout(this.#late);
      this.#frame?.remove();
      this.#frame = null;
      this.#ready = false;
      this.#loads = 0;
      this.#slot.style.display = "";
    }

    /* A second document in the frame is a reload: its bearer is gone, so the host is asked for a new session. */
    #loaded() {
      this.#loads += 1;
      if (this.#loads < 2) return;
      this.#ready = false;
      this.#renew();
    }

    async #renew() {
      const code = await this.#ask();
      if (!code) return;
      const origin = this.#origin || HOME;
      if (origin && this.isConnected) this.#open({origin, code}, this.#place);
    }

    /* A new code from the host's own backend; "" after telling why not. One question at a time. */
    async #ask() {
      const url = this.getAttribute("refresh-url");
      if (!url) return this.#fail("session_missing");
      this.#asking ??= (async () => {
        try {
          const answer = await fetch(url, {
            method: "POST", credentials: "same-origin", cache: "no-store", body: "{}",
            headers: {"content-type": "application/json", accept: "application/json"},
          });
          const given = answer.ok ? await answer.json() : null;
          return CODE.test(given?.code) ? given.code : this.#fail("refresh_failed");
        } catch {
          return this.#fail("refresh_failed");
        } finally {
          this.#asking = null;
        }
      })();
      return this.#asking;
    }

    async #refresh(over) {
      if (over) return this.#renew();
      const code = await this.#ask();
      if (code) this.#send("set-session", {code});
    }

    #send(name, more) {
      if (this.#ready) this.#frame.contentWindow?.postMessage({type: "ownkey:" + name, ...more}, this.#origin);
    }

    #hear = event => {
      const {data, source, origin} = event;
      if (!this.#frame || source !== this.#frame.contentWindow || origin !== this.#origin) return;
      if (data === null || typeof data !== "object" || typeof data.type !== "string") return;
      if (!data.type.startsWith("ownkey:")) return;
      const name = data.type.slice(7);
      if (name === "refresh-wanted") return void this.#refresh(data.over === true);
      const detail = Object.hasOwn(SHAPES, name) && SHAPES[name](data);
      if (!detail) return;
      if (detail.path) this.#place = detail.path.slice("/portal/".length);
      if (name === "ready") this.#greet();
      if (name === "resize" || (name === "ready" && tall(data.height))) this.#frame.style.height = data.height + "px";
      this.#fire(name, detail);
    };

    /* The frame is there: the link steps back, and what changed meanwhile is told. */
    #greet() {
      clearTimeout(this.#late);
      this.#ready = true;
      this.#slot.style.display = "none";
      if (this.#theme()) this.#send("set-theme", {theme: this.#theme()});
    }

    #fire(name, detail) {
      this.dispatchEvent(new CustomEvent("ownkey:" + name, {bubbles: true, composed: true, detail}));
    }

    #fail(code) {
      this.#fire("error", {code});
      return "";
    }
  }

  customElements.define("ownkey-portal", OwnkeyPortal);
})();
