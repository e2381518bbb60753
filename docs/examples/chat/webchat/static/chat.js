// The page of the chat.  All text is set as textContent, never as HTML.

const $ = (id) => document.getElementById(id);
const state = { session: location.hash.slice(1), turns: [], older: false, etag: "", busy: false, fork: null, draft: null };

function node(tag, text, ...names) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.classList.add(...names);
  return made;
}

function button(text, action) {
  const made = node("button", text);
  made.type = "button";
  made.addEventListener("click", () => guarded(action));
  return made;
}

async function call(path, method = "GET", data = undefined, headers = {}) {
  if (data !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: data && JSON.stringify(data) });
  if (!response.ok && response.status !== 304) throw new Error(`${response.status}: ${await response.text()}`);
  return response;
}

async function guarded(action) {
  if (state.busy) return;
  state.busy = true;
  $("status").textContent = "";
  for (const one of document.querySelectorAll("button")) one.disabled = true;
  try {
    await action();
  } catch (error) {
    $("status").textContent = `${error.message}. Send again to try again.`;
  } finally {
    state.busy = false;
    for (const one of document.querySelectorAll("button")) one.disabled = false;
  }
}

// ------------------------------------------------------------------------------------------------------------- showing

function shownTurn(turn) {
  const item = node("li", "");
  for (const message of turn.messages) {
    const texts = Array.isArray(message.content) ? message.content.map((block) => block.text ?? "") : [message.content];
    if (texts.join("")) item.append(node("p", texts.join(""), message.role));
    for (const { function: tool } of message.tool_calls ?? []) {
      item.append(node("p", `calls ${tool.name}(${tool.arguments})`, "call"));
    }
  }
  if (turn.open) item.lastChild.classList.add("cut");
  const question = turn.messages[0].content;
  item.append(button("Ask again", () => ask(question, turn.number)));
  item.append(button("Edit", () => edit(question, turn.number)));
  return item;
}

function show() {
  $("turns").replaceChildren(...state.turns.map(shownTurn));
  $("older").hidden = !state.older;
}

async function showUser() {
  const user = await (await call("/api/user")).json();
  $("who").textContent = user.name ? `Signed in as ${user.name}` : "Guest";
  $("sessions").replaceChildren(
    ...user.sessions.map(({ id, title }) => {
      const item = node("li", "");
      item.append(button(title || "Untitled", () => choose(id)));
      return item;
    }),
  );
  return user;
}

// The version of the session is the ETag: an unchanged session is not sent again.
async function refresh() {
  if (!state.session) return;
  const response = await call(`/api/sessions/${state.session}`, "GET", undefined, { "If-None-Match": state.etag });
  if (response.status === 304) return;
  const page = await response.json();
  const first = page.turns.length ? page.turns[0].number : 0;
  let kept = page.older ? state.turns.filter((turn) => turn.number < first) : [];
  if (kept.length && kept.at(-1).number + 1 < first) kept = []; // turns between the old page and this one are missing
  state.turns = [...kept, ...page.turns];
  if (!kept.length) state.older = page.older;
  state.etag = response.headers.get("ETag");
  show();
}

async function showOlder() {
  const page = await (await call(`/api/sessions/${state.session}?before=${state.turns[0].number}`)).json();
  state.turns = [...page.turns, ...state.turns];
  state.older = page.older;
  show();
}

async function choose(id) {
  Object.assign(state, { session: id, turns: [], older: false, etag: "", fork: null });
  history.replaceState(null, "", id ? `#${id}` : location.pathname);
  show();
  await refresh();
}

// -------------------------------------------------------------------------------------------------------------- asking

function edit(question, number) {
  state.fork = number;
  $("text").value = question;
  $("text").focus();
  $("status").textContent = "The changed text continues in a copy of the conversation.";
}

// A question that is sent again after a failure has the same id, so it is stored once.
async function ask(text, fork = null) {
  if (fork !== null) {
    const copy = await (await call(`/api/sessions/${state.session}/forks`, "POST", { at: fork })).json();
    await choose(copy.id);
  } else if (!state.session) {
    await choose((await (await call("/api/sessions", "POST", {})).json()).id);
  }
  if (state.draft?.text !== text || state.draft.session !== state.session) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    state.draft = { text, session: state.session, id: Array.from(bytes, (byte) => byte.toString(16)).join("-") };
  }
  $("text").value = text;
  const response = await call(`/api/sessions/${state.session}/turns`, "POST", { text, turn_id: state.draft.id });
  let failed = "The answer was cut off";
  await lines(response.body, (line) => {
    $("answer").textContent += line.text ?? "";
    if (line.error) failed = line.error;
    if ("turn" in line) failed = "";
  }).finally(() => ($("answer").textContent = ""));
  if (failed) throw new Error(failed);
  state.draft = null;
  $("text").value = "";
  await refresh();
  await showUser();
}

async function lines(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const found = (rest + part.value).split("\n");
    rest = found.pop();
    found.forEach((line) => take(JSON.parse(line)));
  }
}

function say() {
  const text = $("text").value.trim();
  return text ? ask(text, state.fork) : undefined;
}

// ------------------------------------------------------------------------------------------------------------ the page

async function signIn(name) {
  await call("/api/user", "POST", { name });
  await showUser();
  if (!name) await choose("");
}

async function eraseUser() {
  if (!confirm("Erase all your conversations?")) return;
  await call("/api/user", "DELETE");
  await choose("");
  await showUser();
}

async function start() {
  const user = await showUser();
  if (!state.session && user.sessions.length) state.session = user.sessions[0].id;
  await choose(state.session).catch(() => choose(""));
  document.body.dataset.ready = "true";
}

function on(id, event, action) {
  $(id).addEventListener(event, (happened) => {
    happened.preventDefault();
    guarded(action);
  });
}

on("say", "submit", say);
on("user", "submit", () => signIn($("name").value.trim()));
on("sign-out", "click", () => signIn(""));
on("erase", "click", eraseUser);
on("new", "click", () => choose(""));
on("older", "click", showOlder);
setInterval(() => state.busy || document.hidden || refresh().catch(() => {}), 2000); // turns of other browsers
guarded(start);
