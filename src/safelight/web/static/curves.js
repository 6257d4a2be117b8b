// Curves: small panels under one another that share their steps. Bins hold the least and the largest value.
import uPlot from "../vendor/uplot.js";
import { count, get, html, number, query, runUrl, useCallback, useChanges, useEffect, useMemo, useRef, useState } from "./base.js";

const GROUPS = [ // title, prefix, shown at first
  ["Loss", "raw/", true], ["Held out", "held_out/", true], ["Total", "total", false], ["Learning rate", "lr/", true],
  ["Health", "monitor/", false], ["Trained", "trained/", false], ["Evaluation", "evaluate/", false], ["Gradient norm", "grad_norm/", false],
  ["Seen", "seen/", false], ["Weights", "weight/", false], ["Other", "", false],
];
const LEFT_OUT = ["step", "images"];

function grouped(columns) {
  const left = new Set(columns.filter((name) => !LEFT_OUT.includes(name)));
  return GROUPS.map(([title, prefix, shown]) => {
    const names = [...left].filter((name) => name.startsWith(prefix));
    names.forEach((name) => left.delete(name));
    return { title, prefix, shown, names };
  }).filter((group) => group.names.length);
}

const short = (name, prefix) => (prefix && name !== prefix ? name.slice(prefix.length) : name);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const INKS = ["--accent", "--text", "--second", "--third", "--quiet"];

// Bins of columns over a range: those that are had stay, only later ones are asked for.
function useCurves(name, columns, range, watched = true) {
  const [data, set] = useState(null);
  const held = useRef(null);
  const key = `${name} ${columns.join(" ")} ${range}`;
  const ask = useCallback(async () => {
    if (!columns.length) return;
    const had = held.current?.key === key ? held.current.data : null;
    const since = had?.steps.at(-1);
    const url = `${runUrl(name)}/curves?${query({ column: columns, begin: range?.[0], end: range?.[1], bins: 800, width: had?.width, since })}`;
    const got = await get(url).catch(() => null);
    if (!got) return;
    const next = got.whole || !had ? got : joined(had, got);
    held.current = { key, data: next };
    set(next);
  }, [key]);
  useEffect(() => { ask(); }, [ask]);
  useChanges(watched ? `~${name}` : null, ask);
  return data;
}

function joined(had, got) {
  if (!got.steps.length) return { ...had, last: got.last, end: got.end };
  const first = Math.floor((got.steps[0] - 1) / got.width);
  const keep = had.steps.filter((step) => Math.floor((step - 1) / got.width) < first).length;
  const columns = {};
  for (const name of new Set([...Object.keys(had.columns), ...Object.keys(got.columns)])) {
    columns[name] = {};
    for (const kind of Object.keys(got.columns[name] ?? had.columns[name])) {
      const old = had.columns[name]?.[kind]?.slice(0, keep) ?? Array(keep).fill(null);
      columns[name][kind] = [...old, ...(got.columns[name]?.[kind] ?? Array(got.steps.length).fill(null))];
    }
  }
  return { ...got, steps: [...had.steps.slice(0, keep), ...got.steps], columns };
}

// Half of the weight is on as many values as `half`; 0 leaves them alone.
function smoothed(values, half) {
  if (!half) return values;
  const fade = 0.5 ** (1 / half);
  let total = 0, weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    total = total * fade + value;
    weight = weight * fade + 1;
    return total / weight;
  });
}

// A gap of bins in which nothing is due, as of held-out losses, is no gap of the curve.
const SPANS = true;

function Panel({ group, data, parent, step, setStep, range, setRange, log, half, edits }) {
  const box = useRef(null), plot = useRef(null), now = useRef({});
  now.current = { step, setStep, setRange, edits };
  const names = group.names.filter((name) => data?.columns[name]);
  const shape = `${names} ${log} ${!!parent} ${data?.width === 1}`;
  const table = useMemo(() => (data ? tabled(data, parent, names, half) : null), [data, parent, shape, half]);
  useEffect(() => {
    if (!table || !names.length) return undefined;
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const binned = data.width > 1;
    const series = [{}], bands = [];
    if (parent) for (const _ of names) series.push({ stroke: colour("--faint"), width: 1.5, spanGaps: SPANS, points: { show: false } });
    names.forEach((_, index) => {
      const ink = colour(INKS[index % INKS.length]);
      if (binned) {
        const at = series.length;
        series.push({ stroke: "transparent", spanGaps: SPANS, points: { show: false } }, { stroke: "transparent", spanGaps: SPANS, points: { show: false } });
        bands.push({ series: [at + 1, at], fill: `${ink}2e` });
      }
      if (!binned && half) series.push({ stroke: `${ink}40`, width: 1, spanGaps: SPANS, points: { show: false } });
      series.push({ stroke: ink, width: 1.75, dash: index > 2 ? [4, 3] : [], spanGaps: SPANS, points: { show: table.sparse[index], size: 4, fill: ink } });
    });
    const lines = (u) => {
      const { ctx, bbox } = u;
      const line = (value, ink, dash) => {
        const x = Math.round(u.valToPos(value, "x", true)) + 0.5;
        if (x < bbox.left || x > bbox.left + bbox.width) return;
        ctx.save();
        ctx.strokeStyle = ink;
        ctx.setLineDash(dash);
        ctx.lineWidth = devicePixelRatio;
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.restore();
      };
      for (const edit of now.current.edits) line(edit.step, colour("--accent"), [3, 4]);
      line(now.current.step, colour("--text"), []);
    };
    const made = new uPlot({
      width: box.current.clientWidth, height: 150, padding: [8, 18, 0, 0], series, bands,
      legend: { show: false }, cursor: { points: { show: false }, y: false, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: false, range: () => now.current.span ?? [0, 1] }, y: { distr: log ? 3 : 1 } },
      axes: [{ ...axis, values: (_, values) => values.map((value) => (Number.isInteger(value) ? count(value) : "")), size: 26 },
        { ...axis, size: 58, values: (_, values) => values.map((value) => (value === null ? "" : number(value))) }],
      hooks: {
        draw: [lines],
        setSelect: [(u) => {
          const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")].map(Math.round);
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          if (to - from > 2) now.current.setRange([Math.max(0, from), to]);
          else now.current.setStep(Math.max(0, Math.round(u.posToVal(u.cursor.left, "x"))));
        }],
      },
    }, table.values, box.current);
    made.over.addEventListener("click", () => now.current.setStep(Math.max(0, Math.round(made.posToVal(made.cursor.left, "x")))));
    made.over.addEventListener("dblclick", () => now.current.setRange(null));
    plot.current = made;
    const watch = new ResizeObserver(() => box.current && made.setSize({ width: box.current.clientWidth, height: 150 }));
    watch.observe(box.current);
    return () => { watch.disconnect(); made.destroy(); plot.current = null; };
  }, [shape, half > 0, !!table]);
  now.current.span = range ?? (data ? [data.begin, Math.max(data.end, parent?.end ?? 0)] : null);
  useEffect(() => { if (plot.current && table) plot.current.setData(table.values); }, [table, range]);
  useEffect(() => { plot.current?.redraw(false); }, [step, edits]);
  const values = names.map((name) => valued(data, name, step));
  return html`<figure class="panel">
    <figcaption><b>${group.title}</b> ${names.map((name, index) => html`<span class="series"><i style=${`background:var(${INKS[index % INKS.length]})`}></i>${short(name, group.prefix)} <b>${number(values[index])}</b></span>`)}</figcaption>
    <div ref=${box} class="plot" role="img" aria-label=${names.map((name) => told(data, name, group.prefix, step)).join(". ")}></div></figure>`;
}

function tabled(data, parent, names, half) {
  const steps = parent ? [...new Set([...data.steps, ...parent.steps])].sort((a, b) => a - b) : data.steps;
  const onto = (own, values) => {
    if (!parent) return values;
    const by = new Map(own.map((step, index) => [step, values[index]]));
    return steps.map((step) => by.get(step) ?? null);
  };
  const values = [steps], sparse = [];
  if (parent) for (const name of names) values.push(onto(parent.steps, smoothed(parent.columns[name]?.mean ?? Array(parent.steps.length).fill(null), half)));
  for (const name of names) {
    const column = data.columns[name];
    if (data.width > 1) values.push(onto(data.steps, column.low), onto(data.steps, column.high));
    else if (half) values.push(onto(data.steps, column.mean));
    const there = column.mean.filter((value) => value !== null).length;
    sparse.push(there < 60);
    values.push(onto(data.steps, smoothed(column.mean, there < 60 ? 0 : half)));
  }
  return { values, sparse };
}

function valued(data, name, step) {
  if (!data) return null;
  for (let at = data.steps.length - 1; at >= 0; at -= 1)
    if (data.steps[at] <= Math.max(step, data.steps[0]) && data.columns[name].mean[at] !== null) return data.columns[name].mean[at];
  return null;
}

function told(data, name, prefix, step) {
  if (!data) return "";
  const values = data.columns[name].mean;
  const there = values.map((value, at) => [value, data.steps[at]]).filter(([value]) => value !== null);
  if (!there.length) return `${short(name, prefix)}: nothing recorded here`;
  const least = there.reduce((a, b) => (b[0] < a[0] ? b : a)), most = there.reduce((a, b) => (b[0] > a[0] ? b : a));
  return `${short(name, prefix)}: ${number(there[0][0])} at step ${count(there[0][1])}, ${number(there.at(-1)[0])} at step ${count(there.at(-1)[1])}; `
    + `least ${number(least[0])} at step ${count(least[1])}, most ${number(most[0])} at step ${count(most[1])}; ${number(valued(data, name, step))} at the step shown`;
}

export function Curves({ run, parent, step, setStep, edits }) {
  const groups = useMemo(() => grouped(run.columns), [run.columns.join()]);
  const [chosen, choose] = useState(null);
  const [log, setLog] = useState(false), [half, setHalf] = useState(0), [range, setRange] = useState(null);
  const shown = groups.filter((group) => (chosen ?? groups.filter((each) => each.shown).map((each) => each.title)).includes(group.title));
  const columns = shown.flatMap((group) => group.names.slice(0, 8));
  const data = useCurves(run.facts.name, columns, range);
  const above = useCurves(parent ?? run.facts.name, parent ? columns : [], range, false);
  const toggle = (title) => { const now = shown.map((group) => group.title); choose(now.includes(title) ? now.filter((each) => each !== title) : [...now, title]); };
  if (!run.columns.length) return html`<p class="note">No step is recorded yet.</p>`;
  return html`<section class="curves" aria-label="Curves">
    <div class="tools"><label><input type="checkbox" checked=${log} onChange=${() => setLog(!log)} />log</label>
      <label>smooth <input type="range" min="0" max="100" value=${half} onInput=${(event) => setHalf(Number(event.target.value))} aria-valuetext=${half ? `half-life of ${half} bins` : "off"} /></label>
      <details class="choose"><summary>curves</summary><div>${groups.map((group) => html`<label><input type="checkbox" checked=${shown.includes(group)} onChange=${() => toggle(group.title)} />${group.title}</label>`)}</div></details>
      ${range && html`<button class="quiet" onClick=${() => setRange(null)}>all steps</button>`}
      ${parent && html`<small><i class="grey"></i>${parent}</small>`}</div>
    ${shown.map((group) => html`<${Panel} key=${group.title} group=${{ ...group, names: group.names.slice(0, 8) }} data=${data} parent=${parent && above} step=${step} setStep=${setStep} range=${range} setRange=${setRange} log=${log} half=${half} edits=${edits} />`)}
  </section>`;
}
