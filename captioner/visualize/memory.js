/* ---------- the strips of the timeline that show the memory and its gates ---------- */

function bars(title, explanation, values) {
  return strip(title, explanation, make("div", { class: "columns bars" },
    ...values.map((value) => make("span", { class: "bar" }, value?.toFixed(2) ?? "–",
      make("i", { style: `height: ${62 * (value ?? 0)}%` })))));
}

// The belt thins where the forget gate drops, and thickens where the input gate writes.
function belt(item) {
  const { load, dropped, written, gained } = item.memory.belt, lost = item.memory.dropped;
  const steps = item.words.length;
  const widest = Math.max(...load, 1e-9);
  const top = 0.65 * widest + Math.max(...written), floor = 0.65 * widest + Math.max(...dropped);
  const upper = [], lower = [], streams = []; // y grows downwards
  for (let t = 0; t < steps; t++) {
    const half = load[t] / 2, after = load[t + 1] / 2, rest = half - dropped[t];
    const edge = 0.8 * Math.min(half, after); // the stream ends behind the belt, never below it
    upper.push(`L${t + 0.4} ${-half}`, eased(t + 0.4, -half, t + 1, -after));
    lower.unshift(`${eased(t + 1, after, t + 0.4, rest)} L${t + 0.1} ${rest} L${t + 0.1} ${half}`);
    streams.push(
      stream("written", t + 0.2, [-top, written[t] - top], t + 0.84,
        [-edge, Math.min(written[t] - edge, edge)]),
      stream("dropped", t + 0.1, [rest, half], t + 0.66, [floor - dropped[t], floor]));
  }
  const outline = [`M0 ${-load[0] / 2}`, ...upper, `L${steps} ${load[steps] / 2}`, ...lower,
    `L0 ${load[0] / 2}Z`].join(" ");
  const picture = make("svg", { class: "belt", viewBox: `0 ${-top} ${steps} ${top + floor}`,
    preserveAspectRatio: "none", role: "img", "aria-label": `The belt: ${item.words.map((word, t) =>
      `${word}, dropped ${percent(lost[t])}, written ${percent(gained[t])}`).join("; ")}` },
  ...streams, make("path", { class: "kept", d: outline }), make("line", { x1: 0, x2: steps, y1: 0, y2: 0 }));
  const shares = (name, sign, values) => make("div", { class: `columns ${name}` },
    ...values.map((value) => make("span", {}, sign + percent(value))));
  const section = strip(...item.memory.texts.belt, shares("written", "+", gained), picture,
    shares("dropped", "−", lost));
  section.querySelector("header").append(...data.beltNotes.map((note) => make("p", {}, note)));
  return section;
}

// From one point to another, leaving and arriving level.
function eased(x0, y0, x1, y1) {
  const third = (x1 - x0) / 3;
  return `C${x0 + third} ${y0} ${x1 - third} ${y1} ${x1} ${y1}`;
}

// A ribbon; start and end are its upper and lower edge.
function stream(name, x0, start, x1, end) {
  return make("path", { class: name, d: `M${x0} ${start[0]} ${eased(x0, start[0], x1, end[0])} ` +
    `L${x1} ${end[1]} ${eased(x1, end[1], x0, start[1])}Z` });
}

function heatStrip(item, name) {
  const [title, explanation] = item.memory.texts[name];
  const { mean, values, limit, low } = item.memory.strips[name], polar = low < 0;
  const steps = values.length, units = item.memory.units, table = colours[polar ? "signed" : "gate"];
  const canvas = make("canvas", { class: "heat", role: "img", "aria-label":
    `${title}: means ${item.words.map((word, i) => `${word} ${mean[i]}`).join(", ")}` });
  const level = (value) => (value - low) / (limit - low);
  paint(canvas, units.flatMap((_, u) => values.map((row) => level(row[u]))), steps, units.length, table);

  const top = polar ? Math.max(...mean, 1e-9) : 1;
  const points = mean.map((value, i) => `${i + 0.5},${1 - value / top}`).join(" ");
  const line = make("svg", { viewBox: `0 0 ${steps} 1`, preserveAspectRatio: "none",
    "aria-hidden": "true" }, make("line", { x1: 0, x2: steps, y1: 1, y2: 1 }),
  make("line", { x1: 0, x2: steps, y1: 0, y2: 0 }), make("polyline", { points }));

  const section = strip(title, explanation, line, canvas);
  const readout = make("output");
  section.querySelector("header").append(make("p", {}, polar ?
    "Line: mean size over all units, whatever the sign." : "Line: mean over all units, 0 to 1."),
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

function memoryStrips(item) {
  const { memory } = item;
  if (!memory) return [];
  const strips = Object.keys(memory.strips).map((name) => heatStrip(item, name));
  if (memory.belt) strips.unshift(belt(item));
  else if (memory.dropped) strips.unshift(bars("What it dropped",
    "Share of the memory that the forget gate threw away at this step.", memory.dropped));
  if (memory.belt) strips.push(bars(...memory.texts.shown, memory.belt.shown));
  return [...strips, labels(item)];
}
