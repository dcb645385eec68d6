// Flagged parts: a gallery with filters, and what a person says they were.

import { ask } from "./live.js";
import { shown } from "./camera.js";

const PAGE = 48;
const element = (id) => document.getElementById(id);

export class Gallery {
  constructor(complain) {
    this.complain = complain;
    this.parts = [];
    this.open = null;
    for (const id of ["of-camera", "of-verdict", "of-mark"]) {
      element(id).addEventListener("change", () => this.load());
    }
    element("older").addEventListener("click", () => this.load(true));
    element("fine").addEventListener("click", () => this.mark("fine"));
    element("defect").addEventListener("click", () => this.mark("defect"));
    element("previous").addEventListener("click", () => this.step(1));
    element("next").addEventListener("click", () => this.step(-1));
    element("close").addEventListener("click", () => element("part").close());
    element("part").addEventListener("close", () => { this.open = null; });
  }

  cameras(names) {
    const select = element("of-camera");
    const known = [...select.options].slice(1).map((option) => option.value);
    if (known.join() === names.join()) return;
    select.replaceChildren(select.options[0], ...names.map((name) => new Option(name, name)));
  }

  async load(older = false) {
    const query = new URLSearchParams({ flagged: "true", most: PAGE });
    for (const key of ["camera", "verdict", "mark"]) {
      const value = element(`of-${key}`).value;
      if (value) query.set(key, value);
    }
    if (older && this.parts.length) query.set("before", this.parts.at(-1).id);
    try {
      const found = await ask(`/api/parts?${query}`);
      this.parts = older ? [...this.parts, ...found] : found;
      element("older").hidden = found.length < PAGE;
      this.draw();
    } catch (error) {
      this.complain(error);
    }
  }

  draw() {
    const shownParts = element("gallery");
    const kept = new Map([...shownParts.children].map((item) => [item.dataset.key, item]));
    shownParts.replaceChildren(...this.parts.map((part) =>
      kept.get(keyOf(part)) ?? this.card(part)));
    element("gallery-empty").hidden = this.parts.length > 0;
  }

  card(part) {
    const item = document.createElement("li");
    item.dataset.key = keyOf(part);
    const button = document.createElement("button");
    button.type = "button";
    if (part.pictures) {
      const image = new Image();
      image.loading = "lazy";
      image.alt = "";
      image.src = `/api/parts/${part.id}/view.jpg`;
      button.append(image);
    } else {
      const gone = document.createElement("span");
      gone.className = "gone";
      gone.textContent = "no picture kept";
      button.append(gone);
    }
    const words = document.createElement("span");
    words.className = "words";
    const head = document.createElement("b");
    head.append(span(part.verdict, `${part.verdict} ${part.score === null ? "" : shown(part.score)}`));
    if (part.mark) head.append(span("", part.mark === "fine" ? "was fine" : "was a defect"));
    words.append(head, span("note", `${part.camera}, ${timeOf(part)}`));
    button.append(words);
    button.addEventListener("click", () => this.show(part.id));
    item.append(button);
    return item;
  }

  show(id) {
    const part = this.parts.find((each) => each.id === id);
    if (!part) return;
    this.open = id;
    element("part-name").textContent = part.name;
    const score = part.score === null ? "no score" : `score ${shown(part.score)}`;
    element("part-about").textContent = [
      part.camera, timeOf(part), `${part.verdict}, ${score}, threshold ${shown(part.threshold)}`,
      part.reason, part.engine,
    ].filter(Boolean).join(" · ");
    for (const [target, name] of [["part-frame", "frame.png"], ["part-view", "view.jpg"]]) {
      element(target).hidden = !part.pictures;
      if (part.pictures) element(target).src = `/api/parts/${id}/${name}`;
    }
    for (const mark of ["fine", "defect"]) {
      element(mark).setAttribute("aria-pressed", String(part.mark === mark));
    }
    if (!element("part").open) element("part").showModal();
  }

  step(by) {
    const at = this.parts.findIndex((part) => part.id === this.open);
    const other = this.parts[at + by];
    if (at >= 0 && other) this.show(other.id);
  }

  newest() {
    if (this.parts.length) this.show(this.parts[0].id);
  }

  async mark(mark) {
    const part = this.parts.find((each) => each.id === this.open);
    if (!part) return;
    const value = part.mark === mark ? null : mark;
    try {
      await ask(`/api/parts/${part.id}/mark`, { mark: value });
      part.mark = value;
      this.draw();
      this.show(part.id);
    } catch (error) {
      this.complain(error);
    }
  }
}

function keyOf(part) {
  return `${part.id} ${part.mark ?? ""} ${part.pictures}`;
}

function timeOf(part) {
  return new Date(part.time * 1000).toLocaleString();
}

function span(kind, text) {
  const child = document.createElement("span");
  child.className = kind;
  child.textContent = text;
  return child;
}
