"use strict";
// The dashboard: it calls the same API as everybody. What comes from a project is only ever text, never markup.

const LOOK_MS = 2000, RETRY_MS = 1000, LOG_LINES = 200, LOG_CHARS = 400000, HISTORY_ROWS = 50;
const OWN = "ant-host-agent";
const STATES = {ready: "good", running: "good", starting: "wait", stopping: "wait", backoff: "wait", failed: "bad"};

const $ = (id) => document.getElementById(id);
const cards = new Map();          // project -> {node, status}
let following = null;             // the one live log: {project, abort}

// -- calls ------------------------------------------------------------------------------------------------------------

class Refusal extends Error {
  constructor(problem, status) {
    super(problem.detail || problem.title || `The agent answered ${status}.`);
    this.problem = problem;
  }
}

// The address without the key that it may have been opened with: fetch takes no URL that holds one.
const url = (path) => location.origin + path;

async function call(method, path, body) {
  const options = {method, cache: "no-store"};
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = {"Content-Type": "application/json"};
  }
  const answer = await fetch(url(path), options);
  const text = await answer.text();
  const document = parsed(text);
  if (!answer.ok && !(answer.status === 503 && "healthy" in document)) throw new Refusal(document, answer.status);
  return document;
}

function parsed(text) {
  try {
    return JSON.parse(text) || {};
  } catch {
    return {detail: text.slice(0, 300)};
  }
}

function upload(file, project, version, onProgress) {
  const query = new URLSearchParams({project});
  if (version) query.set("version", version);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();  // fetch tells nothing of how much was sent
    request.open("POST", url(`/project?${query}`));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () => {
      const document = parsed(request.responseText);
      if (request.status < 300) resolve(document); else reject(new Refusal(document, request.status));
    };
    request.onerror = () => reject(new Error("The connection broke. The same artifact may be sent again without harm."));
    request.send(file);
  });
}

// -- words ------------------------------------------------------------------------------------------------------------

function duration(seconds) {
  if (typeof seconds !== "number") return "–";
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    const count = Math.floor(left / size);
    left %= size;
    if (count || parts.length || unit === "s") parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

function bytes(count) {
  if (typeof count !== "number") return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count, unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value.toFixed(unit && value < 100 ? 1 : 0)} ${units[unit]}`;
}

function projectOf(name) {
  const bare = name.replace(/(\.(tar|gz|bz2|xz|zst|tgz|tbz2|txz|zip|pyz|sh|py|bin|elf))+$/i, "");
  return bare.replace(/[-_.]v?\d+(\.\d+)*([-_.+][0-9A-Za-z.+-]*)?$/, "").toLowerCase().replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "").slice(0, 63);
}

function element(tag, text) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  return made;
}

const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const announce = (text) => { $("announcement").textContent = text; };

function say(box, sentence, more = {}) {
  box.replaceChildren(element("strong", sentence));
  box.classList.toggle("bad", Boolean(more.bad));
  if (more.hint) box.append(element("p", more.hint));
  if (more.items && more.items.length) {
    const list = element("ul");
    list.append(...more.items.map((item) => element("li", item)));
    box.append(list);
  }
  if (more.lines && more.lines.length) {
    const lines = element("pre", more.lines.join("\n"));
    lines.tabIndex = 0;
    lines.setAttribute("role", "region");
    lines.setAttribute("aria-label", "Its last output");
    box.append(lines);
  }
  box.hidden = false;
}

function sayFailure(box, error) {
  const problem = error.problem || {};
  const tail = Array.isArray(problem.log_tail) ? problem.log_tail : [];
  say(box, error.message, {bad: true, hint: problem.hint, lines: tail});
}

// -- the list ---------------------------------------------------------------------------------------------------------

async function look() {
  try {
    const [list, health] = await Promise.all([call("GET", "/project"), call("GET", "/healthz").catch(onlyRefusals)]);
    show(list.projects || []);
    showHealth(health);
    $("trouble").hidden = true;
  } catch (error) {
    write($("health"), "");
    if ($("trouble").hidden) {
      write($("trouble"), `The agent can't be asked: ${error.message} What is below may be old.`);
      $("trouble").hidden = false;
    }
  }
}

// A key that is limited to some projects may not ask for the health of the whole host.
function onlyRefusals(error) {
  if (error instanceof Refusal) return null;
  throw error;
}

function showHealth(health) {
  const node = $("health");
  if (health === null) return write(node, "");
  node.classList.toggle("bad", !health.healthy);
  write(node, health.healthy ? `version ${health.version} · ${bytes(health.free_bytes)} free` : `Not well: ${(health.problems || []).join("; ")}`);
}

function show(statuses) {
  const names = new Set(statuses.map((status) => status.project));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      if (following && following.project === name) stopFollowing();
      card.node.remove();
      cards.delete(name);
    }
  }
  statuses.forEach((status, index) => {
    let card = cards.get(status.project);
    if (!card) {
      card = {node: makeCard(status.project)};
      cards.set(status.project, card);
    }
    if ($("projects").children[index] !== card.node) $("projects").insertBefore(card.node, $("projects").children[index] || null);
    fill(card.node, status);
    if (card.status && card.status.state !== status.state) announce(`${status.project} is ${status.state}`);
    card.status = status;
  });
  write($("count"), `(${statuses.length})`);
  $("empty").hidden = statuses.length > 0;
  const known = [...names].join("\n");
  if ($("known").dataset.names !== known) {
    $("known").dataset.names = known;
    $("known").replaceChildren(...[...names].map((name) => { const option = element("option"); option.value = name; return option; }));
  }
}

function makeCard(project) {
  const node = $("card").content.firstElementChild.cloneNode(true);
  node.dataset.project = project;
  const title = node.querySelector("h3");
  title.textContent = project;
  title.id = `title-${project}`;
  node.querySelector("article").setAttribute("aria-labelledby", title.id);
  for (const view of node.querySelectorAll(".view")) {
    view.id = `${view.dataset.of}-${project}`;
    const name = view.dataset.of === "logs" ? "Live output" : "History";
    view.querySelector("[role=region]").setAttribute("aria-label", `${name} of ${project}`);
  }
  for (const button of node.querySelectorAll("button[data-view]")) {
    button.setAttribute("aria-controls", `${button.dataset.view}-${project}`);
    button.setAttribute("aria-label", `${button.textContent} of ${project}`);
    button.addEventListener("click", () => toggle(node, button));
  }
  for (const button of node.querySelectorAll("button[data-act]")) {
    button.setAttribute("aria-label", `${button.textContent} ${project}`);
    button.addEventListener("click", () => ask(node, project, button.dataset.act));
  }
  if (project === OWN) node.querySelector("[data-act=kill]").hidden = true;
  return node;
}

function fill(node, status) {
  const state = node.querySelector(".state");
  write(state, status.state);
  state.className = `state ${STATES[status.state] || ""}`;
  write(node.querySelector(".release"), status.version ? `version ${status.version}` : "no release");
  write(node.querySelector(".explanation"), status.explanation || "");
  write(node.querySelector(".uptime"), duration(status.uptime_seconds));
  write(node.querySelector(".memory"), bytes(status.memory_bytes));
  write(node.querySelector(".restarts"), String(status.restarts ?? "–"));
  write(node.querySelector(".process"), status.pid ? `pid ${status.pid}` : "–");
}

// -- logs and history -------------------------------------------------------------------------------------------------

function toggle(node, button) {
  const open = button.getAttribute("aria-expanded") !== "true";
  setView(node, button.dataset.view, open);
}

function setView(node, name, open) {
  const project = node.dataset.project;
  node.querySelector(`[data-view=${name}]`).setAttribute("aria-expanded", String(open));
  node.querySelector(`[data-of=${name}]`).hidden = !open;
  if (name === "history" && open) showHistory(node, project);
  if (name !== "logs") return;
  if (following && (open || following.project === project)) stopFollowing();
  if (open) follow(node, project);
}

function stopFollowing() {
  const {project, abort} = following;
  following = null;
  abort.abort();
  const card = cards.get(project);
  if (card && card.node.querySelector("[data-view=logs]").getAttribute("aria-expanded") === "true") setView(card.node, "logs", false);
}

async function follow(node, project) {
  const box = node.querySelector("[data-of=logs] pre"), light = node.querySelector(".pulse"), mine = {project, abort: new AbortController()};
  following = mine;
  while (following === mine) {
    try {
      const answer = await fetch(url(`/project/${project}/logs?format=text&tail=${LOG_LINES}&follow=true`), {signal: mine.abort.signal});
      if (!answer.ok) throw new Refusal(parsed(await answer.text()), answer.status);
      box.textContent = "";
      live(light, true, "live: new lines appear as they are printed");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) append(box, part.value);
      live(light, false, "the stream ended; asking again");
    } catch (error) {
      if (following !== mine) return;
      live(light, false, `${error.message} Asking again.`);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function live(light, on, text) {
  light.classList.toggle("off", !on);
  write(light, text);
}

function append(box, text) {
  const at_end = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.append(text);
  if (box.childNodes.length > 500 || box.textContent.length > LOG_CHARS) {
    const kept = box.textContent.slice(-LOG_CHARS / 2);
    box.textContent = kept.slice(kept.indexOf("\n") + 1);
  }
  if (at_end) box.scrollTop = box.scrollHeight;
}

async function showHistory(node, project) {
  const body = node.querySelector("tbody");
  try {
    const {history = []} = await call("GET", `/project/${project}/history`);
    body.replaceChildren(...history.slice(-HISTORY_ROWS).reverse().map(row));
  } catch (error) {
    body.replaceChildren(row({at: "", event: "failed", reason: error.message}));
  }
}

function row({at, event, ...rest}) {
  const made = element("tr"), when = element("td");
  const time = element("time", at ? new Date(at).toLocaleString() : "");
  time.dateTime = at || "";
  when.append(time);
  made.append(when, element("td", String(event || "–")), element("td", details(rest)));
  return made;
}

function details(rest) {
  const words = Object.entries(rest).filter(([name, value]) => value !== null && value !== "" && name !== "schema");
  return words.map(([name, value]) => `${name.replaceAll("_", " ")}: ${brief(value)}`).join(" · ");
}

const brief = (value) => typeof value === "object" ? value.text || JSON.stringify(value) : String(value);

// -- acts -------------------------------------------------------------------------------------------------------------

const ACTS = {
  kill: {
    title: "Kill", yes: "Kill it", doing: "is being killed",
    text: (project) => `All processes of ${project} end, and it stays down until it is launched or restarted.`,
    run: (project) => call("DELETE", `/project/${project}`),
    sentence: (project, reply) => reply.status === "NothingToKill" ? `${project} was not running.` : `${project} is down; ${reply.killed.length} processes ended.`,
    items: (reply) => [...(reply.killed || []), ...(reply.survivors || []).map((one) => ({...one, signal: "SURVIVED"}))]
      .map((one) => `${one.pid} ${one.signal} ${one.command}`),
  },
  restart: {
    title: "Restart", yes: "Restart it", doing: "is being restarted",
    text: (project) => `${project} ends, and the same release starts again.`,
    run: (project) => call("POST", `/project/${project}/restart`),
    sentence: (project, reply) => `${project} ${reply.version} is up (${reply.state}, pid ${reply.pid}).`,
  },
  rollback: {
    title: "Roll back", yes: "Roll back", doing: "is being rolled back",
    text: (project) => `An older release of ${project} that is still on this host is started in place of this one.`,
    run: (project, version) => call("POST", `/project/${project}/rollback`, version ? {version} : {}),
    sentence: (project, reply) => `${project} ${reply.version} is up again (${reply.state}, pid ${reply.pid}).`,
  },
};

let confirmed = null;

async function ask(node, project, name) {
  const act = ACTS[name], dialog = $("confirm");
  write($("confirm-title"), `${act.title} ${project}?`);
  write($("confirm-text"), act.text(project));
  write($("confirm-yes"), act.yes);
  $("confirm-version").value = "";
  $("confirm-version-line").hidden = name !== "rollback";
  if (name === "rollback") offerVersions(project);
  confirmed = () => actOn(node, project, act, $("confirm-version").value.trim());
  dialog.showModal();
}

async function offerVersions(project) {
  const {history = []} = await call("GET", `/project/${project}/history`).catch(() => ({}));
  const versions = [...new Set(history.filter((entry) => entry.version).map((entry) => entry.version))].reverse();
  $("versions").replaceChildren(...versions.map((version) => { const option = element("option"); option.value = version; return option; }));
}

async function actOn(node, project, act, version) {
  const box = node.querySelector(".verdict"), buttons = [...node.querySelectorAll("[data-act]")];
  say(box, `${project} ${act.doing}…`);
  buttons.forEach((button) => { button.disabled = true; });
  try {
    const reply = await act.run(project, version);
    const survived = (reply.survivors || []).length > 0;
    say(box, act.sentence(project, reply), {bad: survived, items: act.items ? act.items(reply) : reply.warnings});
  } catch (error) {
    sayFailure(box, error);
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
  if (!node.querySelector("[data-of=history]").hidden) showHistory(node, project);
  look();
}

async function launch(file) {
  const project = $("project").value.trim(), version = $("version").value.trim(), box = $("verdict");
  if (!file) return say(box, "Choose an artifact first.", {bad: true});
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(project)) {
    $("project").focus();
    return say(box, "Name the project: small letters, digits and -, at most 63.", {bad: true});
  }
  const started = performance.now();
  box.hidden = true;
  $("progress").hidden = false;
  $("launch-button").disabled = true;
  try {
    const reply = await upload(file, project, version, (sent, all) => {
      const rate = sent / Math.max(performance.now() - started, 1) * 1000;
      $("bar").value = all ? sent / all : 0;
      write($("progress-text"), sent < all ? `${bytes(sent)} of ${bytes(all)}, ${bytes(rate)}/s, ${duration((all - sent) / rate)} left`
        : `${bytes(all)} are there; ${project} is being launched…`);
    });
    const steps = (reply.steps || []).map((step) => `${step.name}: ${step.seconds.toFixed(3)} s`);
    const warnings = (reply.warnings || []).map((warning) => `Warning: ${warning}`);
    const verdict = reply.status === "AlreadyRunning" ? "ran already; nothing had to change" : "is up";
    say(box, `${reply.project} ${reply.version} ${verdict} (${reply.state}, pid ${reply.pid}).`, {items: [...warnings, ...steps]});
    $("version").value = "";
  } catch (error) {
    sayFailure(box, error);
  } finally {
    $("progress").hidden = true;
    $("launch-button").disabled = false;
  }
  look();
}

// -- wiring -----------------------------------------------------------------------------------------------------------

let dropped = null;

function chosen(file) {
  if (file && !$("project").value) $("project").value = projectOf(file.name);
}

$("artifact").addEventListener("change", () => { dropped = null; chosen($("artifact").files[0]); });
$("launch").addEventListener("submit", (event) => { event.preventDefault(); launch(dropped || $("artifact").files[0]); });
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm-yes").addEventListener("click", () => { $("confirm").close(); confirmed(); });

const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [item] = event.dataTransfer.items, entry = item && item.webkitGetAsEntry && item.webkitGetAsEntry();
  if (event.dataTransfer.files.length !== 1 || (entry && entry.isDirectory)) {
    return say($("verdict"), "Drop one file. A folder is packed by the command line: ant-host-agent.pyz launch FOLDER", {bad: true});
  }
  dropped = event.dataTransfer.files[0];
  chosen(dropped);
  say($("verdict"), `${dropped.name} (${bytes(dropped.size)}) is ready to be launched.`);
  $("launch-button").focus();
});

async function keepLooking() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

write($("host"), location.host);
document.title = `${location.host} · ant-host-agent`;
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
keepLooking();
