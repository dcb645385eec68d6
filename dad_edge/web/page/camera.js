// The chosen camera: chart of scores, threshold with what it would have done, hours.

import { ask } from "./live.js";

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 240;
const HEIGHT = 220;
const element = (id) => document.getElementById(id);

export class CameraPanel {
  constructor(complain) {
    this.complain = complain;
    this.points = new Map();
    this.undo = new Map();
    this.chosen = null;
    this.proposed = null;
    this.state = null;
    element("slider").addEventListener("input", (e) => this.propose(Number(e.target.value)));
    element("value").addEventListener("input", (e) => this.propose(Number(e.target.value)));
    for (const id of ["slider", "value"]) {
      element(id).addEventListener("keydown", (e) => e.key === "Enter" && this.apply());
    }
    element("apply").addEventListener("click", () => this.apply());
    element("undo").addEventListener("click", () => this.takeBack());
  }

  async choose(camera) {
    if (this.chosen === camera) return;
    this.chosen = camera;
    this.proposed = null;
    this.state = null;
    element("camera-name").textContent = camera;
    element("what-if").textContent = "";
    element("undo").disabled = !this.undo.get(camera)?.length;
    if (!this.points.has(camera)) this.points.set(camera, []);
    try {
      const parts = await ask(`/api/parts?camera=${encodeURIComponent(camera)}&most=${POINTS}`);
      const known = this.points.get(camera);
      const oldest = known[0]?.id ?? "~";
      known.unshift(...parts.reverse().filter((part) => part.id < oldest));
      this.draw();
    } catch (error) {
      this.complain(error);
    }
    this.showHours();
  }

  frame(record) {
    if (!this.points.has(record.camera)) this.points.set(record.camera, []);
    const points = this.points.get(record.camera);
    points.push(record);
    points.splice(0, Math.max(0, points.length - POINTS));
    if (record.camera === this.chosen) this.draw();
  }

  update(camera) {
    if (camera.name !== this.chosen) return;
    const first = this.state === null || this.state.threshold !== camera.threshold;
    this.state = camera;
    element("camera-about").textContent =
      `${camera.class_name} · ${camera.engine} · ${camera.source}`;
    if (first && this.proposed === null) this.setInputs(camera.threshold);
    if (first) this.draw();
  }

  range() {
    const [low, high] = this.state?.score_range ?? [0, 1];
    return high > low ? [low, high] : [0, 1];
  }

  setInputs(value) {
    const [low, high] = this.range();
    const slider = element("slider");
    slider.min = Math.min(low, value);
    slider.max = Math.max(high, value);
    slider.value = value;
    element("value").value = shown(value);
  }

  propose(value) {
    if (!this.state || !(value >= 0 && value <= 1)) return;
    const same = Math.abs(value - this.state.threshold) < 1e-9;
    this.proposed = same ? null : value;
    this.setInputs(value);
    element("apply").disabled = same;
    element("what-if").textContent = "";
    this.draw();
    clearTimeout(this.asking);
    if (!same) this.asking = setTimeout(() => this.whatIf(this.chosen, value), 150);
  }

  async whatIf(camera, value) {
    try {
      const found = await ask(
        `/api/cameras/${encodeURIComponent(camera)}/what-if?threshold=${value}`);
      if (this.proposed !== value || this.chosen !== camera) return;
      const marked = [
        found.marked_fine_above && `${found.marked_fine_above} of them marked as fine`,
        found.marked_defect_below && `${found.marked_defect_below} marked defects would pass`,
      ].filter(Boolean).join("; ");
      element("what-if").textContent = found.parts
        ? `Of the last ${found.parts.toLocaleString("en")} parts ${found.above_then} would be `
          + `above it instead of ${found.above_now}${marked ? `; ${marked}` : ""}.`
        : "No part has been inspected yet.";
    } catch (error) {
      this.complain(error);
    }
  }

  async apply() {
    if (this.proposed === null) return;
    await this.set(this.proposed, true);
  }

  async takeBack() {
    const earlier = this.undo.get(this.chosen)?.pop();
    if (earlier !== undefined) await this.set(earlier, false);
  }

  async set(value, keep) {
    const camera = this.chosen;
    try {
      const path = `/api/cameras/${encodeURIComponent(camera)}/threshold`;
      const done = await ask(path, { threshold: value });
      if (!this.undo.has(camera)) this.undo.set(camera, []);
      if (keep) this.undo.get(camera).push(done.before);
      element("what-if").textContent =
        `The threshold is ${shown(done.after)}; it was ${shown(done.before)}.`;
    } catch (error) {
      this.complain(error);
    }
    this.proposed = null;
    element("apply").disabled = true;
    element("undo").disabled = !this.undo.get(camera)?.length;
    if (this.state) this.state = { ...this.state, threshold: value };
    this.setInputs(value);
    this.draw();
  }

  draw() {
    const width = widthOf("chart");
    const svg = picture(width, HEIGHT);
    const points = this.points.get(this.chosen) ?? [];
    const [low, usual] = this.range();
    const high = Math.max(usual, ...points.map((point) => point.score ?? 0));
    const y = (score) => HEIGHT - 12 - (HEIGHT - 24) * clamp((score - low) / (high - low));
    for (const share of [0, 0.5, 1]) {
      const at = low + share * (high - low);
      add(svg, "line", { x1: 44, x2: width, y1: y(at), y2: y(at), class: "axis" });
      add(svg, "text", { x: 0, y: y(at) + 4 }).textContent = shown(at);
    }
    points.forEach((point, index) => {
      const x = 50 + ((width - 56) * (index + POINTS - points.length)) / (POINTS - 1);
      const score = point.score ?? high;
      add(svg, "circle", { cx: x, cy: y(score), r: 3.5, class: point.verdict });
    });
    const threshold = this.state?.threshold;
    if (threshold !== undefined) line(svg, width, y(threshold), "threshold-line");
    if (this.proposed !== null) line(svg, width, y(this.proposed), "proposed");
    element("chart").replaceChildren(svg);
  }

  async showHours() {
    if (!this.chosen) return;
    try {
      const rows = (await ask("/api/hours")).filter((row) => row.camera === this.chosen);
      drawHours(rows);
    } catch (error) {
      this.complain(error);
    }
  }
}

function drawHours(rows) {
  const height = 110;
  const width = widthOf("hours");
  const svg = picture(width, height);
  const now = Math.floor(Date.now() / 3600000) * 3600;
  const totals = new Map();
  for (const row of rows) totals.set(row.hour, (totals.get(row.hour) ?? 0) + row.frames);
  const most = Math.max(1, ...totals.values());
  for (let back = 23; back >= 0; back -= 1) {
    const hour = now - back * 3600;
    const x = 50 + ((23 - back) * (width - 50)) / 24;
    let top = height - 20;
    for (const verdict of ["good", "defect", "invalid"]) {
      const row = rows.find((each) => each.hour === hour && each.verdict === verdict);
      if (!row) continue;
      const tall = Math.max(1.5, ((height - 30) * row.frames) / most);
      top -= tall;
      const bar = add(svg, "rect",
        { x, y: top, width: Math.max(2, (width - 50) / 24 - 6), height: tall, class: verdict });
      add(bar, "title", {}).textContent =
        `${new Date(hour * 1000).getHours()}:00, ${row.frames} ${verdict}`;
    }
    if (back % 4 === 3) {
      add(svg, "text", { x, y: height - 4 }).textContent =
        `${String(new Date(hour * 1000).getHours()).padStart(2, "0")}:00`;
    }
  }
  add(svg, "text", { x: 0, y: 14 }).textContent = String(most);
  document.getElementById("hours").replaceChildren(svg);
}

export function shown(value) {
  return Number(value).toPrecision(3);
}

function widthOf(id) {
  return Math.max(300, document.getElementById(id).clientWidth);
}

function line(svg, width, y, kind) {
  add(svg, "line", { x1: 44, x2: width, y1: y, y2: y, class: kind });
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}

function picture(width, height) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return svg;
}

function add(parent, name, attributes) {
  const child = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) child.setAttribute(key, value);
  parent.append(child);
  return child;
}
