// Keyboard, live updates, the search, and turns on demand.  Every page also works without this file, except the search.
"use strict";

const one = (selector, from = document) => from.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];

// ---- keyboard

const items = () => all("[data-item]");

function place() {
  const found = items();
  const at = found.findIndex((item) => item.classList.contains("here"));
  return at >= 0 || !location.hash ? at : found.findIndex((item) => `#${item.id}` === location.hash);
}

function go(item) {
  if (!item) return;
  all(".here").forEach((other) => other.classList.remove("here"));
  item.classList.add("here");
  (item.matches(".turn") ? item : one("a", item)).focus({ preventScroll: true });
  item.scrollIntoView({ block: item.matches(".turn") ? "start" : "nearest" });
}

function step(by) {
  const found = items(), at = place();
  if (at < 0) go(found[by > 0 ? 0 : found.length - 1]);
  else go(found[Math.min(Math.max(at + by, 0), found.length - 1)]);
}

function fold() {
  const turn = one(".turn.here") || one(".turn:target") || one(".turn");
  if (!turn) return;
  const details = [...turn.querySelectorAll("details")].filter((part) => !part.parentElement.closest("details"));
  const open = details.some((part) => !part.open);
  details.forEach((part) => { part.open = open; });
}

// The panel lists the problems of the turns on the page, also of turns that were added.
function collectProblems() {
  const panel = one("[data-problem-panel]"), found = all(".turn [data-problems] > li");
  if (!panel) return;
  one("ul", panel).replaceChildren(...found.map((item) => item.cloneNode(true)));
  panel.hidden = !found.length;
}

let problem = -1;
function nextProblem() {
  const links = all(".problems [data-problem]");
  if (!links.length) return;
  problem = (problem + 1) % links.length;
  const turn = one(links[problem].hash);
  if (!turn) return;
  go(turn);
  turn.querySelectorAll(".call.failed").forEach((call) => { call.open = true; });
}

const keys = {
  j: () => step(1),
  k: () => step(-1),
  o: fold,
  e: nextProblem,
  p: () => one("[data-pause]")?.click(),
  u: () => one("nav[aria-label=Pages] a")?.click(),
  "/": () => (one("[data-filter]") || one("input[type=search]"))?.focus(),
  "?": () => one("#help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (keys[event.key] && !one("dialog[open]")) {
    event.preventDefault();
    keys[event.key]();
  }
});

one("[data-help]")?.removeAttribute("hidden");
one("[data-help]")?.addEventListener("click", keys["?"]);
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-problem]");
  if (link) one(link.hash)?.querySelectorAll(".call.failed").forEach((call) => { call.open = true; });
});

// ---- streams of events, with pause

// A browser opens six connections to a server at most, so only visible pages keep one.
function follow(frame, url, texts, handlers) {
  const text = one("[data-live-text]", frame), button = one("[data-pause]", frame);
  let source = null, wanted = true;
  const say = (words, state) => { text.textContent = words; frame.className = `live ${state}`; };
  const update = () => {
    if (source && (!wanted || document.hidden)) {
      source.close();
      source = null;
      if (wanted) say("Waiting", "paused");
    } else if (!source && wanted && !document.hidden) {
      source = new EventSource(url());
      source.onopen = () => say(texts.on, "");
      source.onerror = () => {
        const refused = source.readyState === EventSource.CLOSED; // the browser does not try again
        say(refused ? "Not connected. Reload the page." : "Connecting again …", "lost");
      };
      source.addEventListener("failed", (event) => say(JSON.parse(event.data), "lost"));
      source.addEventListener("gone", (event) => {
        wanted = false;
        update();
        button.hidden = true;
        say(JSON.parse(event.data), "lost");
      });
      for (const [name, handler] of Object.entries(handlers)) {
        source.addEventListener(name, (event) => handler(JSON.parse(event.data), event.lastEventId));
      }
    }
  };
  button.addEventListener("click", () => {
    wanted = !wanted;
    update();
    if (!wanted) say("Paused", "paused");
    button.textContent = wanted ? "Pause" : texts.resume;
  });
  document.addEventListener("visibilitychange", update);
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) { source = null; update(); } });
  frame.hidden = false;
  update();
}

const live = one("[data-live]");
if (live) {
  const address = new URL(live.dataset.live, location.href);
  const fresh = one("[data-fresh]");
  const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  const toEnd = () => { fresh.hidden = true; scrollTo(0, document.documentElement.scrollHeight); };
  one("button", fresh).addEventListener("click", toEnd);
  follow(live, () => address, { on: "Following", resume: "Follow" }, {
    changed(change, version) {
      const stay = !atEnd();
      address.searchParams.set("version", version);
      if (change.replace) all(".turns .turn").forEach((turn) => turn.remove());
      one("[data-empty]")?.remove();
      for (const [number, html] of change.turns) {
        const old = one(`#turn-${number}`);
        const open = old ? [...old.querySelectorAll("details")].map((part) => part.open) : [];
        if (old) old.outerHTML = html;
        else fresh.insertAdjacentHTML("beforebegin", html);
        one(`#turn-${number}`).querySelectorAll("details").forEach((part, at) => { if (open[at]) part.open = true; });
      }
      for (const [name, value] of Object.entries(change.facts)) {
        const fact = one(`[data-fact=${name}]`);
        if (fact) fact.textContent = value;
      }
      collectProblems();
      if (!stay) toEnd();
      else if (change.turns.length) fresh.hidden = false;
    },
  });
}

const metrics = one("[data-metrics]");
if (metrics) {
  follow(metrics, () => metrics.dataset.metrics, { on: "Measured every 5 seconds", resume: "Resume" }, {
    measured: (html) => { one("[data-charts]").innerHTML = html; },
  });
}

// ---- the search

const search = one("[data-search]");
if (search) {
  const source = new EventSource(search.dataset.search), progress = one("[data-progress]"), stop = one("[data-stop]");
  const end = (text) => { source.close(); stop.remove(); progress.textContent = text; };
  source.addEventListener("hits", (event) => one("[data-hits]").insertAdjacentHTML("beforeend", JSON.parse(event.data)));
  source.addEventListener("progress", (event) => { progress.textContent = JSON.parse(event.data); });
  source.addEventListener("end", (event) => end(JSON.parse(event.data)));
  source.onerror = () => end("The search has ended early: the connection was lost.");
  stop.addEventListener("click", () => end(`${progress.textContent} Stopped.`));
  window.addEventListener("pagehide", () => source.close());
}

// ---- earlier turns

document.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-earlier]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const answer = await fetch(link.dataset.earlier);
  if (!answer.ok) { location.href = link.href; return; }
  const bottom = document.documentElement.scrollHeight - scrollY;
  link.parentElement.outerHTML = await answer.text();
  collectProblems();
  scrollTo(0, document.documentElement.scrollHeight - bottom);
});

// ---- the first view

const panel = one("[data-panel]");
if (panel && matchMedia("(max-width: 62rem)").matches) panel.open = false;
