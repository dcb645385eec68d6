// The page: cards of the cameras, events, sinks, keys; the parts live in modules of their own.

import { ask, follow } from "./live.js";
import { CameraPanel, shown } from "./camera.js";
import { Gallery } from "./gallery.js";

const element = (id) => document.getElementById(id);
const cards = new Map();
const panel = new CameraPanel(complain);
const gallery = new Gallery(complain);
let states = [];
let flagged = 0;
let leave = () => {};

function complain(error) {
  element("notice").textContent = error.message;
  element("notice").hidden = false;
  clearTimeout(complain.timer);
  complain.timer = setTimeout(() => { element("notice").hidden = true; }, 12000);
}

function follow_as(look) {
  leave();
  for (const button of document.querySelectorAll("[data-look]")) {
    button.setAttribute("aria-pressed", String(button.dataset.look === look));
  }
  leave = follow(look, { connected, state: showState, frame: showFrame });
}

function connected(yes) {
  if (!yes) setStatus("not connected", "defect");
}

function setStatus(text, kind) {
  const status = element("status");
  if (status.textContent !== text) status.textContent = text;
  status.className = `pill ${kind}`;
}

function showState(state) {
  states = state.cameras;
  element("name").textContent = state.name;
  document.title = `${state.name}: dad-edge`;
  const names = states.map((camera) => camera.name);
  gallery.cameras(names);
  for (const camera of states) {
    showCamera(camera);
    panel.update(camera);
  }
  for (const [name, card] of cards) {
    if (!names.includes(name)) {
      card.item.remove();
      cards.delete(name);
    }
  }
  if (panel.chosen === null && names.length) choose(names[0]);
  const offline = states.filter((camera) => !camera.online).length;
  if (offline) setStatus(`${offline} of ${states.length} cameras offline`, "defect");
  else if (states.some((camera) => camera.paused)) setStatus("paused", "invalid");
  else setStatus("inspecting", "good");
  showEvents(state.events);
  showSinks(state.sinks);
  const total = states.reduce((sum, camera) =>
    sum + (camera.verdicts.defect ?? 0) + (camera.verdicts.invalid ?? 0), 0);
  if (total !== flagged) {
    flagged = total;
    refresh();
  }
}

let refreshing = null;
function refresh() {
  // Pictures are written a moment after the verdict; many flagged parts are one refresh.
  refreshing ??= setTimeout(() => {
    refreshing = null;
    if (gallery.open === null && gallery.parts.length <= 48) gallery.load();
    panel.showHours();
  }, 1500);
}

function cardOf(name) {
  if (cards.has(name)) return cards.get(name);
  const item = document.createElement("article");
  item.className = "camera";
  item.innerHTML = `
    <button type="button" class="picture"><img alt=""><span class="cover" hidden></span></button>
    <div class="body">
      <div class="row"><h2></h2><span class="pill"></span>
        <button type="button" class="pause">Pause</button></div>
      <div class="row"><span class="score"></span><span class="note limit"></span></div>
      <p class="note rate"></p><p class="note drift bad" hidden></p>
    </div>`;
  const part = (selector) => item.querySelector(selector);
  const card = {
    item, image: part("img"), cover: part(".cover"), pill: part(".pill"), score: part(".score"),
    limit: part(".limit"), rate: part(".rate"), drift: part(".drift"), pause: part(".pause"),
    address: null,
  };
  part("h2").textContent = name;
  part(".picture").setAttribute("aria-label", `Choose ${name}`);
  part(".picture").addEventListener("click", () => choose(name));
  card.pause.addEventListener("click", () => pause(name));
  item.dataset.camera = name;
  cards.set(name, card);
  element("cameras").append(item);
  return card;
}

function showCamera(camera) {
  const card = cardOf(camera.name);
  const why = camera.paused ? "Paused" : camera.online ? "" : `Offline. ${camera.error}`;
  card.cover.textContent = why;
  card.cover.hidden = why === "";
  if (why) {
    card.pill.textContent = camera.paused ? "paused" : "offline";
    card.pill.className = `pill ${camera.paused ? "invalid" : "defect"}`;
  }
  card.pause.textContent = camera.paused ? "Go on" : "Pause";
  card.rate.textContent = `${camera.fps.toFixed(1)} frames/s, ${camera.latency_ms.toFixed(0)} ms, `
    + `${camera.frames.toLocaleString("en")} inspected`
    + (camera.dropped ? `, ${camera.dropped.toLocaleString("en")} dropped` : "");
  card.drift.textContent = camera.drift;
  card.drift.hidden = camera.drift === "";
}

function showFrame(record, content) {
  const card = cardOf(record.camera);
  const address = URL.createObjectURL(new Blob([content], { type: "image/jpeg" }));
  card.image.src = address;
  card.image.alt = `${record.camera}, ${record.verdict}`;
  card.image.dataset.frame = record.id;
  if (card.address) URL.revokeObjectURL(card.address);
  card.address = address;
  card.pill.textContent = record.rejected ? `rejected: ${record.verdict}` : record.verdict;
  card.pill.className = `pill ${record.rejected && record.verdict === "good" ? "defect" : record.verdict}`;
  card.score.textContent = record.score === null ? "–" : shown(record.score);
  card.limit.textContent = record.reason ?? `threshold ${shown(record.threshold)}`;
  panel.frame(record);
}

function choose(name) {
  for (const [each, card] of cards) card.item.classList.toggle("chosen", each === name);
  panel.choose(name);
  const state = states.find((camera) => camera.name === name);
  if (state) panel.update(state);
}

async function pause(name) {
  const camera = states.find((each) => each.name === name);
  if (!camera) return;
  try {
    await ask(`/api/cameras/${encodeURIComponent(name)}/paused`, { paused: !camera.paused });
  } catch (error) {
    complain(error);
  }
}

function showEvents(events) {
  const list = element("events");
  const newest = events.at(-1);
  const key = newest ? `${events.length} ${newest.time} ${newest.message}` : "";
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...events.toReversed().map((event) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = event.time;
    time.textContent = new Date(event.time).toLocaleString();
    item.append(time, event.message);
    return item;
  }));
}

function showSinks(sinks) {
  element("sinks").tBodies[0].replaceChildren(...sinks.map((sink) => {
    const row = document.createElement("tr");
    const cells = [sink.name, sink.written, sink.waiting, sink.lost].map((value) => {
      const cell = document.createElement("td");
      cell.textContent = value.toLocaleString("en");
      return cell;
    });
    if (sink.error) {
      const why = document.createElement("div");
      why.className = "bad";
      why.textContent = sink.error;
      cells[0].append(why);
    }
    row.append(...cells);
    return row;
  }));
}

async function showReports() {
  const found = await ask("/api/reports");
  element("reports").hidden = !found.length;
  element("reports").querySelector("ul").replaceChildren(...found.map((name) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `/reports/${name.split("/").map(encodeURIComponent).join("/")}`;
    link.textContent = name;
    item.append(link);
    return item;
  }));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
}

const dark = matchMedia("(prefers-color-scheme: dark)").matches;
setTheme(localStorage.getItem("theme") ?? (dark ? "dark" : "light"));
element("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
element("help").addEventListener("click", () => element("keys").showModal());
for (const button of document.querySelectorAll("[data-look]")) {
  button.addEventListener("click", () => follow_as(button.dataset.look));
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (gallery.open !== null) {
    if (key === "f") gallery.mark("fine");
    else if (key === "d") gallery.mark("defect");
    else if (key === "arrowleft") gallery.step(1);
    else if (key === "arrowright") gallery.step(-1);
    return;
  }
  if (event.target.closest("input, select, dialog")) return;
  if (key >= "1" && key <= "9" && states[key - 1]) choose(states[key - 1].name);
  else if (key === "p" && panel.chosen) pause(panel.chosen);
  else if (key === "t") element("slider").focus();
  else if (key === "u") panel.takeBack();
  else if (key === "g") gallery.newest();
  else if (key === "?") element("keys").showModal();
});

follow_as("heat");
gallery.load();
showReports().catch(complain);
setInterval(() => panel.showHours(), 60000);
