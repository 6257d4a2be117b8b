// The front end of safelight/notebook.py: a run while it trains, and a model under sliders. uPlot stands above.
const INKS = ["#d1642f", "#3d7ea6", "#6d9a3f", "#a05ab0", "#8a8378"];

function element(tag, parent, words = "") {
  const made = parent.appendChild(document.createElement(tag));
  made.textContent = words;
  return made;
}

// The picture of the model, kept current; what it replaces is let go.
function pictured(model, parent) {
  const image = element("img", parent);
  image.style.cssText = "display:block;max-width:100%;image-rendering:pixelated";
  const show = () => {
    const bytes = model.get("picture");
    if (!bytes?.byteLength) return;
    const old = image.src;
    image.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    if (old) URL.revokeObjectURL(old);
  };
  model.on("change:picture", show);
  show();
  return image;
}

function live({ model, el }) {
  const words = element("p", el), tools = element("label", el, "log "), box = element("div", el);
  words.setAttribute("role", "status");
  const log = tools.appendChild(Object.assign(document.createElement("input"), { type: "checkbox" }));
  const image = pictured(model, el);
  let plot = null, shape = "";
  const draw = () => {
    const { words: text, steps, series } = model.get("state");
    words.textContent = text;
    image.alt = `The newest sheet of ${text}`;
    const names = Object.keys(series ?? {}), now = `${names} ${log.checked}`;
    if (!names.length) return;
    // A logarithm has no place for 0 and less.
    const values = names.map((name) => series[name].map((value) => (log.checked && value !== null && value <= 0 ? null : value)));
    if (shape === now) { plot.setData([steps, ...values]); return; }
    shape = now;
    plot?.destroy();
    const ink = getComputedStyle(el).color, axis = { stroke: ink, grid: { stroke: "#8884", width: 1 }, ticks: { show: false } };
    plot = new uPlot({
      width: el.clientWidth || 600, height: 200, scales: { x: { time: false }, y: { distr: log.checked ? 3 : 1 } },
      axes: [axis, { ...axis, size: 60 }],
      series: [{ label: "step" }, ...names.map((name, at) => ({ label: name, stroke: INKS[at % INKS.length], width: 1.5, spanGaps: true }))],
    }, [steps, ...values], box);
  };
  model.on("change:state", draw);
  log.addEventListener("change", draw);
  draw();
  return () => { model.off("change:state", draw); plot?.destroy(); };
}

// While an answer is awaited, only the latest place of the sliders waits.
function sliders({ model, el }) {
  const start = model.get("state"), values = start.sliders.map((slider) => slider.value);
  let number = 0, seed = start.seed, waiting = false, moved = false;
  const ask = () => {
    moved = waiting;
    if (waiting) return;
    waiting = true;
    number += 1;
    model.set("wish", { number, values: [...values], seed });
    model.save_changes();
  };
  const worded = (value) => String(Number(value.toPrecision(3)));
  const row = (label) => {
    const made = element("label", el);
    made.style.cssText = "display:flex;gap:.6em;align-items:center";
    element("span", made, label).style.cssText = "min-width:9em";
    return made;
  };
  start.sliders.forEach((slider, at) => {
    const label = row(slider.key), input = element("input", label), shown = element("output", label, worded(slider.value));
    Object.assign(input, { type: "range", min: Math.min(slider.low, slider.high), max: Math.max(slider.low, slider.high), step: slider.step });
    input.value = slider.value;
    input.style.flex = "1";
    input.addEventListener("input", () => { values[at] = Number(input.value); shown.textContent = worded(values[at]); ask(); });
  });
  const label = row("seed"), input = Object.assign(element("input", label), { type: "number", min: 0, value: seed });
  input.addEventListener("change", () => { seed = Math.max(0, Math.round(Number(input.value)) || 0); input.value = seed; ask(); });
  const image = pictured(model, el), mistake = element("p", el);
  image.alt = start.words;
  mistake.setAttribute("role", "alert");
  const answered = () => {
    const state = model.get("state");
    if (state.number !== number) return;
    mistake.textContent = state.mistake;
    waiting = false;
    if (moved) ask();
  };
  model.on("change:state", answered);
  return () => model.off("change:state", answered);
}

export default { render: (context) => (context.model.get("kind") === "live" ? live(context) : sliders(context)) };
