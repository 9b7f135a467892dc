"use strict";

// The page's data is a list of items (captions); `show` draws one of them, gallery.js all.
const data = JSON.parse(document.getElementById("data").textContent);
const colours = Object.fromEntries(Object.entries(data.colours).map(([name, table]) =>
  [name, Uint8Array.from(atob(table), (byte) => byte.charCodeAt(0))]));

const MILLISECONDS_PER_WORD = 900;

const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const signed = (value) => value.toFixed(2).replace("-", "−");
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "polyline", "line", "path"].includes(tag);
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

function timeline(item) {
  const strips = [labels(item), thumbnails(item), bars("How sure it was",
    "Probability of the chosen word among all the words it knows.", item.wordLogProbs.map(Math.exp))];
  if (item.beta) strips.push(bars("β: how much it let in",
    "A gate on what attention saw. 1: all of it. Near 0: the word came from language alone.", item.beta));
  return [...strips, ...memoryStrips(item)];
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
  const dropped = item.memory?.dropped?.[word], written = item.memory?.belt?.gained[word];
  if (dropped != null) rows.push(["Dropped", percent(dropped), "of its memory"]);
  if (written != null) rows.push(["Written", percent(written), "of its memory is new"]);
  return rows;
}

// Returns how to choose a word, and how to leave.
function show(item, number) {
  const count = item.words.length, words = [], listening = new AbortController();
  const { signal } = listening;
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
      history.replaceState(null, "", address(number, pinned));
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
    }, { signal });
    element.addEventListener("pointerleave", () => timer || draw(pinned), { signal });
    element.addEventListener("click", (event) => on(event, (word) => {
      play(false);
      choose(word);
    }), { signal });
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
  $("timeline").replaceChildren(...(count ? timeline(item) : []));
  $("alternatives").replaceChildren(...item.alternatives.map(({ text, logProb }) => make("li", {},
    text || "(a caption without words)", make("small", {}, ` log ${signed(logProb)}`))));
  $("beam").hidden = !item.alternatives.length;
  if (!count) {
    $("facts").replaceChildren();
    return { choose: () => {}, leave: () => {} };
  }

  hoverable($("words"), (event) => words.indexOf(event.target.closest("button")));
  for (const body of document.querySelectorAll(".body")) hoverable(body, (event) => {
    const box = body.getBoundingClientRect();
    return Math.floor((event.clientX - box.left) / box.width * count);
  });
  $("time").max = count;
  $("time").addEventListener("input", () => { play(false); choose($("time").value - 1); }, { signal });
  $("play").addEventListener("click", () => play(!timer), { signal });
  $("cells").addEventListener("change", () => draw(pinned), { signal });
  const fade = () => { $("overlay").style.opacity = $("opacity").value / 100; };
  $("opacity").addEventListener("input", fade, { signal });
  fade(); // some browsers keep the slider where it was when a page is loaded anew
  document.addEventListener("keydown", onKey, { signal });
  return { choose, leave: () => { play(false); listening.abort(); } };
}
