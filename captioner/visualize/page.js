"use strict";

// The page's data is a list of items (captions); `show(item)` draws one of them.
const data = JSON.parse(document.getElementById("data").textContent);
const colours = Object.fromEntries(Object.entries(data.colours).map(([name, table]) =>
  [name, Uint8Array.from(atob(table), (byte) => byte.charCodeAt(0))]));

const MILLISECONDS_PER_WORD = 900;
const GATES = {
  forget: ["Forget gate", "What share of its old memory each unit keeps. Dark: dropped, bright: kept.",
    "Line: mean over all units, 0 to 1."],
  input: ["Input gate", "How much of the new content each unit writes into its memory.",
    "Line: mean over all units, 0 to 1."],
  cell: ["Cell state: the conveyor belt",
    "The memory that is carried on: old memory × forget gate + new content × input gate.",
    "Line: mean size over all units, whatever the sign."],
  output: ["Output gate",
    "How much of its memory each unit shows to the choice of the word; of a GRU, to the new content.",
    "Line: mean over all units, 0 to 1."],
};

const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const signed = (value) => value.toFixed(2).replace("-", "−");
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "polyline", "line"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/* ---------- attention over the picture ---------- */

// Catmull-Rom weights of the four cells around each of `size` pixels. The picture reaches from
// `start` to `end` where the cells' centres are 0, 1, …; these are not always its equal parts.
function taps(cells, size, [start, end]) {
  return Array.from({ length: size }, (_, pixel) => {
    const centre = start + (pixel + 0.5) * (end - start) / size, first = Math.floor(centre) - 1;
    return [0, 1, 2, 3].map((k) => {
      const x = Math.abs(centre - first - k);
      const weight = x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2;
      return [clamp(first + k, 0, cells - 1), weight];
    });
  });
}

function upsample({ height, width, down, across }, values, scale) {
  const sideways = taps(width, width * scale, across), rows = Array.from({ length: height },
    (_, row) => sideways.map((four) => four.reduce(
      (sum, [column, weight]) => sum + weight * values[row * width + column], 0)));
  return taps(height, height * scale, down).flatMap((four) => sideways.map((_, pixel) =>
    four.reduce((sum, [row, weight]) => sum + weight * rows[row][pixel], 0)));
}

// The cells along an axis, the outermost repeated where the picture reaches beyond them, and where
// they begin on the picture, and how far they go.
function blocks(count, [start, end]) {
  const first = Math.min(0, Math.floor(start + 0.5)), last = Math.max(count, Math.ceil(end + 0.5));
  const cells = Array.from({ length: last - first }, (_, i) => clamp(first + i, 0, count - 1));
  const share = (steps) => `${100 * steps / (end - start)}%`;
  return { cells, from: share(first - 0.5 - start), length: share(cells.length) };
}

// `levels` between 0 and 1, row by row, in the colours of `table`.
function paint(canvas, levels, width, height, table) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  levels.forEach((level, i) => {
    const colour = 4 * Math.round(255 * clamp(level, 0, 1));
    image.data.set(table.subarray(colour, colour + 4), 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function paintAttention(canvas, alpha, word, pixels, asCells) {
  const { width, height } = alpha, values = alpha.values[word], peak = Math.max(...values, 1e-12);
  const across = blocks(width, alpha.across), down = blocks(height, alpha.down);
  const scale = Math.ceil(pixels / Math.max(width, height));
  if (asCells) paint(canvas, down.cells.flatMap((row) => across.cells.map((column) =>
    values[row * width + column] / peak)), across.cells.length, down.cells.length, colours.overlay);
  else paint(canvas, upsample(alpha, values, scale).map((value) => value / peak), width * scale,
    height * scale, colours.overlay);
  Object.assign(canvas.style, asCells ? { left: across.from, top: down.from, width: across.length,
    height: down.length } : { left: "", top: "", width: "", height: "" });
  canvas.classList.toggle("cells", asCells);
}

function gradient(table, behind) {
  const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map((level) => {
    const [r, g, b, a] = table.subarray(4 * Math.round(255 * level));
    return `rgb(${r} ${g} ${b} / ${(a / 255).toFixed(2)})`;
  });
  return `linear-gradient(90deg, ${stops}), ${behind}`;
}

/* ---------- the strips of the timeline ---------- */

function strip(title, explanation, ...body) {
  const header = title ? make("header", {}, make("h2", {}, title), make("p", {}, explanation))
    : make("header");
  return make("section", { class: title ? "strip" : "strip tight" }, header,
    make("div", { class: "body" }, ...body));
}

function labels(item) {
  return strip("", "", make("div", { class: "columns" },
    ...item.words.map((word) => make("b", { title: word }, word))));
}

function thumbnails(item) {
  const canvases = item.words.map((word, i) => {
    const canvas = make("canvas", { role: "img", "aria-label": `attention at ${word}` });
    const overlay = make("canvas");
    paintAttention(overlay, item.alpha, i, 112, false);
    canvas.width = canvas.height = 192;
    const context = canvas.getContext("2d");
    context.drawImage($("picture"), 0, 0, 192, 192);
    context.drawImage(overlay, 0, 0, 192, 192);
    return canvas;
  });
  return strip("Where it looked", "Light: cells it attended to, before it wrote the word.",
    make("div", { class: "columns" }, ...canvases));
}

function bars(title, explanation, values) {
  return strip(title, explanation, make("div", { class: "columns bars" },
    ...values.map((value) => make("span", { class: "bar" }, value?.toFixed(2) ?? "–",
      make("i", { style: `height: ${62 * (value ?? 0)}%` })))));
}

function heatStrip(item, name) {
  const [title, explanation, lineNote] = GATES[name];
  const { mean, values, limit } = item.memory.strips[name], polar = name === "cell";
  const steps = values.length, units = item.memory.units, table = colours[polar ? "cell" : "gate"];
  const canvas = make("canvas", { class: "heat", role: "img", "aria-label":
    `${title}: means ${item.words.map((word, i) => `${word} ${mean[i]}`).join(", ")}` });
  const level = (value) => polar ? 0.5 + value / limit / 2 : value / limit;
  paint(canvas, units.flatMap((_, u) => values.map((row) => level(row[u]))), steps, units.length, table);

  const top = polar ? Math.max(...mean, 1e-9) : 1;
  const points = mean.map((value, i) => `${i + 0.5},${1 - value / top}`).join(" ");
  const line = make("svg", { viewBox: `0 0 ${steps} 1`, preserveAspectRatio: "none",
    "aria-hidden": "true" }, make("line", { x1: 0, x2: steps, y1: 1, y2: 1 }),
  make("line", { x1: 0, x2: steps, y1: 0, y2: 0 }), make("polyline", { points }));

  const section = strip(title, explanation, line, canvas);
  const readout = make("output");
  section.querySelector("header").append(make("p", {}, lineNote),
    make("div", { class: "legend" }, polar ? `−${limit}` : "0",
      make("span", { class: "scale", style: `background: ${gradient(table, "var(--card)")}` }),
      polar ? `+${limit}` : "1"), readout);
  canvas.addEventListener("pointermove", (event) => {
    const u = clamp(Math.floor(event.offsetY / canvas.clientHeight * units.length), 0, units.length - 1);
    const t = clamp(Math.floor(event.offsetX / canvas.clientWidth * steps), 0, steps - 1);
    readout.textContent = `unit ${units[u]} at “${item.words[t]}”: ${values[t][u]}`;
  });
  return section;
}

function timeline(item) {
  const strips = [labels(item), thumbnails(item), bars("How sure it was",
    "Probability of the chosen word among all the words it knows.", item.wordLogProbs.map(Math.exp))];
  if (item.beta) strips.push(bars("β: how much it let in",
    "A gate on what attention saw. 1: all of it. Near 0: the word came from language alone.", item.beta));
  if (!item.memory) return strips;
  if (item.memory.dropped) strips.push(bars("What it dropped",
    "Share of the memory that the forget gate threw away at this step.", item.memory.dropped));
  return [...strips, ...Object.keys(item.memory.strips).map((name) => heatStrip(item, name)), labels(item)];
}

function notes(item) {
  const shown = item.memory?.units.length, hidden = item.memory?.hidden;
  return [
    "Each column is the step that wrote that word. Attention is drawn from 0 to the word's own maximum, " +
    "so brightness compares places, not words. ",
    item.memory ? `Gate strips show ${shown < hidden ? `the ${shown} of ${hidden} units that vary most` :
      `all ${hidden} units`}, one per row, in the same order everywhere: sorted by the word at which their ` +
      "memory is largest. " : "",
    `The whole caption has log-probability ${signed(item.logProb)}. `,
    "After Xu et al. (2015), Show, Attend and Tell.",
  ].join("");
}

/* ---------- one caption, walked through word by word ---------- */

function facts(item, word) {
  const values = item.alpha.values[word], peak = Math.max(...values);
  const rows = [["Probability", Math.exp(item.wordLogProbs[word]).toFixed(2),
    `log ${signed(item.wordLogProbs[word])}`]];
  if (item.beta) rows.push(["β, let in", item.beta[word].toFixed(2), "of what it saw"]);
  rows.push(["Brightest cell", percent(peak), `${(peak * values.length).toFixed(1)}× an even spread`]);
  const dropped = item.memory?.dropped?.[word];
  if (item.memory?.dropped) rows.push(["Memory dropped", dropped == null ? "–" : percent(dropped),
    dropped == null ? "first word" : "by the forget gate"]);
  return rows;
}

function show(item) {
  const count = item.words.length, words = [];
  let pinned = 0, drawn = -1, timer = null;

  function draw(word) { // shows a word without choosing it
    drawn = word;
    paintAttention($("overlay"), item.alpha, word, 224, $("cells").checked);
    words.forEach((button, i) => {
      button.setAttribute("aria-current", i === word);
      button.tabIndex = i === word ? 0 : -1;
    });
    document.documentElement.style.setProperty("--word", word);
    $("time").value = word + 1;
    $("time").setAttribute("aria-valuetext", item.words[word]);
    $("count").textContent = `${word + 1} / ${count}`;
    const rows = facts(item, word), peak = item.alpha.values[word];
    $("facts").replaceChildren(...rows.map(([name, value, more]) => make("div", {},
      make("dt", {}, name), make("dd", {}, value, make("small", {}, more)))));
    $("overlay-limit").textContent = `${percent(Math.max(...peak))} of its attention per cell`;
    if (!timer) $("said").textContent =
      `${item.words[word]}: ${rows.map((row) => row.join(" ")).join("; ")}`;
  }

  function choose(word) {
    pinned = clamp(word, 0, count - 1);
    draw(pinned);
    try {
      history.replaceState(null, "", `#word=${pinned + 1}`);
    } catch { /* a page inside another page's frame may have no address to change */ }
    const column = $("timeline").querySelector(".columns").children[pinned];
    const left = column.offsetLeft - ($("timeline").clientWidth - column.clientWidth) / 2;
    $("timeline").scrollTo({ left });
  }

  function play(on) {
    clearInterval(timer);
    timer = null;
    $("play").classList.toggle("playing", on);
    $("play").setAttribute("aria-label", on ? "Pause" : "Play");
    if (!on) return;
    choose(pinned === count - 1 ? 0 : pinned);
    timer = setInterval(() => {
      if (pinned < count - 1) choose(pinned + 1);
      if (pinned === count - 1) play(false);
    }, MILLISECONDS_PER_WORD);
  }

  function fromAddress() {
    return (Number(new URLSearchParams(location.hash.slice(1)).get("word")) || 1) - 1;
  }

  function onKey(event) {
    const field = event.target.matches("input"), button = event.target.matches("button");
    const ours = !field && !(button && event.key === " " && !words.includes(event.target));
    const go = { ArrowLeft: pinned - 1, ArrowRight: pinned + 1, Home: 0, End: count - 1 };
    if (!ours || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === " ") play(!timer);
    else if (event.key in go) {
      play(false);
      choose(go[event.key]);
      if (words.includes(event.target)) words[pinned].focus();
    } else return;
    event.preventDefault();
  }

  function hoverable(element, wordAt) {
    const on = (event, act) => {
      const word = wordAt(event);
      if (word >= 0 && word < count) act(word);
    };
    element.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && !timer) on(event, (word) => word === drawn || draw(word));
    });
    element.addEventListener("pointerleave", () => timer || draw(pinned));
    element.addEventListener("click", (event) => on(event, (word) => {
      play(false);
      choose(word);
    }));
  }

  $("name").textContent = item.name;
  $("picture").alt = `The picture as the encoder saw it, captioned: ${item.text}`;
  $("overlay-scale").style.background = gradient(colours.overlay, "#9aa0a6");
  $("notes").textContent = notes(item);
  document.documentElement.style.setProperty("--words", count);
  words.push(...item.words.map((word) => make("button", { type: "button" }, word)));
  if (count) $("words").replaceChildren(...words.flatMap((button) => [button, " "]));
  else $("words").textContent = "(a caption without words)";
  for (const id of ["play", "time", "cells", "opacity"]) $(id).disabled = !count;
  if (!count) return;

  $("timeline").replaceChildren(...timeline(item));
  hoverable($("words"), (event) => words.indexOf(event.target.closest("button")));
  for (const body of document.querySelectorAll(".body")) hoverable(body, (event) => {
    const box = body.getBoundingClientRect();
    return Math.floor((event.clientX - box.left) / box.width * count);
  });
  $("time").max = count;
  $("time").addEventListener("input", () => { play(false); choose($("time").value - 1); });
  $("play").addEventListener("click", () => play(!timer));
  $("cells").addEventListener("change", () => draw(pinned));
  const fade = () => { $("overlay").style.opacity = $("opacity").value / 100; };
  $("opacity").addEventListener("input", fade);
  fade(); // some browsers keep the slider where it was when a page is loaded anew
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => choose(fromAddress()));
  choose(fromAddress());
}

$("picture").addEventListener("load", () => show(data.items[0]), { once: true });
$("picture").src = data.items[0].picture;
