// Side by side: the same noises of two to four runs, at one step, as many images, or as many hours.
import { Command, command, count, get, html, Link, Note, number, query, runPath, runUrl, setParams, typing, useAnswer, useEffect, useMemo, useState } from "./base.js";
import { Save } from "./jobs.js";
import { fitting, tilesUrl, useWidth } from "./sheet.js";
import { Timeline, useKeys, usePlay } from "./timeline.js";

const AXES = { step: "step", images: "images", hours: "hours" };
const VIEWS = [["grid", "Grid"], ["swipe", "Swipe"], ["flicker", "Flicker"], ["difference", "Difference"]];

function useRuns(names) {
  const [runs, set] = useState([]), [mistake, fail] = useState(null);
  const key = names.join(" ");
  useEffect(() => { Promise.all(names.map((name) => get(`${runUrl(name)}/aligned`))).then((all) => { set(all); fail(null); }, (error) => fail(error.message)); }, [key]);
  return [runs, mistake];
}

// The last sheet of a run at a place of the axis; null where it has none there.
function sheetAt(run, axis, at) {
  const there = run.sheets.filter((sheet) => sheet[axis] <= at + 1e-9).at(-1);
  const last = run.sheets.at(-1);
  return there ? { ...there, over: there === last && at > last[axis] * 1.0001 } : null;
}

function Cell({ run, sheet, columns, axis }) {
  return html`<figure class="cell"><figcaption><${Link} to=${runPath(run.name, "", { step: sheet?.step })}>${run.name}<//>
      <small>${sheet ? html`step ${count(sheet.step)}${axis === "images" ? ` · ${count(sheet.images)} images` : axis === "hours" ? ` · ${number(sheet.hours)} h` : ""}${sheet.over ? " · its last" : ""}` : "nothing yet"}</small></figcaption>
    ${sheet ? html`<img class="pixels" src=${tilesUrl(run.name, sheet, columns)} alt=${`Samples of ${run.name} at step ${sheet.step}`} />` : html`<div class="empty">${run.name} has no sheet there.</div>`}</figure>`;
}

function Pair({ view, pair, sheets, columns, share, setShare, other, setOther }) {
  const [a, b] = pair;
  if (!sheets[0] || !sheets[1]) return html`<div class="empty">${(sheets[0] ? b : a).name} has no sheet there.</div>`;
  const urls = pair.map((run, index) => tilesUrl(run.name, sheets[index], columns));
  const names = html`<figcaption><span>${a.name} <small>step ${count(sheets[0].step)}</small></span><span class="spring"></span><span>${b.name} <small>step ${count(sheets[1].step)}</small></span></figcaption>`;
  if (view === "swipe") return html`<figure class="pair">${names}<div class="over"><img class="pixels" src=${urls[1]} alt=${`Samples of ${b.name}`} />
      <img class="pixels top" src=${urls[0]} alt=${`Samples of ${a.name}, to the left of the line`} style=${`clip-path:inset(0 ${100 - share}% 0 0)`} /><i class="line" style=${`left:${share}%`} aria-hidden="true"></i>
      <input class="swipe" type="range" min="0" max="100" value=${share} onInput=${(event) => setShare(Number(event.target.value))} aria-label=${`Share of ${a.name}`} /></div></figure>`;
  if (view === "difference") return html`<figure class="pair">${names}<div class="over difference"><img class="pixels" src=${urls[0]} alt=${`Difference of ${a.name} and ${b.name}: black where they are equal`} /><img class="pixels top" src=${urls[1]} alt="" /></div>
    <p class="note">Black where both are equal.</p></figure>`;
  return html`<figure class="pair">${names}<div class="over"><img class="pixels" src=${urls[0]} alt=${`Samples of ${a.name}`} /><img class="pixels top" src=${urls[1]} alt=${`Samples of ${b.name}`} hidden=${!other} /></div>
    <p><button aria-pressed=${other} onPointerDown=${() => setOther(true)} onPointerUp=${() => setOther(false)} onPointerLeave=${() => setOther(false)}
      onKeyDown=${(event) => { if (event.key === " " || event.key === "Enter") setOther(true); }} onKeyUp=${() => setOther(false)}>Hold, or hold f: ${b.name}</button> <small>shown: <b>${other ? b.name : a.name}</b></small></p></figure>`;
}

function Comparable({ names }) {
  const [open, set] = useState(false);
  const [facts, mistake] = useAnswer(open && `/api/compare?${query({ run: names })}`);
  const { images } = facts?.pictures ?? {}, [at] = facts?.at ?? [];
  return html`<details class="comparable" onToggle=${(event) => set(event.target.open)}><summary>What differs, and what is not comparable</summary>
    ${open && !facts && html`<${Note} mistake=${mistake}>Comparing …<//>`}
    ${facts && html`${facts.settings.length ? html`<${Table} caption="Settings" runs=${names} rows=${facts.settings.map(({ key, values }) => [key, names.map((name) => values[name] ?? "–")])} />` : html`<p>The settings are the same.</p>`}
      ${facts.surroundings.length > 0 && html`<${Table} caption="Machine and versions" runs=${names} rows=${facts.surroundings.map(({ key, values }) => [key, names.map((name) => values[name] ?? "–")])} />`}
      ${images.apart.concat(images.samplers).map((apart) => html`<${Apart} apart=${apart} what="not the same noises or sampler" />`)}
      ${at && html`<${Numbers} title=${`Losses at ${count(at.budget.amount)} images seen`} table=${at.components} /><${Numbers} title="Held-out losses" table=${at.held_out} />`}
      <${Numbers} title="Evaluations" table=${facts.metrics} /><${Numbers} title="Cost" table=${facts.cost} />`}</details>`;
}

const Table = ({ caption, runs, rows }) => html`<table><caption>${caption}</caption><thead><tr><td></td>${runs.map((run) => html`<th scope="col">${run}</th>`)}</tr></thead>
  <tbody>${rows.map(([title, cells]) => html`<tr><th scope="row">${title}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody></table>`;

const Apart = ({ apart, what }) => html`<${Table} caption=${`${apart.runs.join(", ")} and ${apart.others.join(", ")}: ${what}`} runs=${[apart.runs.join(", "), apart.others.join(", ")]} rows=${apart.facts.map(({ fact, here, there }) => [fact, [here, there]])} />`;

// A table for every set of numbers that may stand beside each other, and why there are several.
const Numbers = ({ title, table }) => html`${table.columns.map(({ rows }) => {
    const names = [...new Set(rows.flatMap((row) => Object.keys(row.numbers)))], floor = (value) => value?.floor != null && html` <small>real against real ${number(value.floor)}</small>`;
    return html`<${Table} caption=${title} runs=${rows.map((row) => row.run)} rows=${names.map((name) => [name, rows.map(({ numbers: { [name]: value } }) => html`${number(value?.value)}${floor(value)}`)])} />`;
  })}${table.apart.map((apart) => html`<${Apart} apart=${apart} what="not measured in the same way" />`)}`;

export function Side({ names, params }) {
  const [runs, mistake] = useRuns(names);
  const axis = params.get("by") in AXES ? params.get("by") : "step";
  const view = VIEWS.some(([key]) => key === params.get("view")) ? params.get("view") : "grid";
  const most = Math.max(...runs.map((run) => run.sheets.at(-1)?.[axis] ?? 0), 0);
  const [dragged, drag] = useState(null);
  const at = dragged ?? (params.has("at") ? Number(params.get("at")) : most);
  const [share, setShare] = useState(50), [other, setOther] = useState(false), [box, width] = useWidth();
  const setAt = (value) => drag(value);
  useEffect(() => { document.title = `${names.join(", ")} · safelight`; }, [names.join()]);
  useEffect(() => { drag(null); }, [axis]);
  useEffect(() => { if (dragged === null) return undefined; const timer = setTimeout(() => setParams({ at: dragged }), 150); return () => clearTimeout(timer); }, [dragged]);
  const steps = useMemo(() => [...new Set(runs.flatMap((run) => run.sheets.map((sheet) => sheet[axis])))].sort((a, b) => a - b), [runs, axis]);
  const [playing, play] = usePlay(steps, at, setAt);
  useKeys({ step: at, setStep: setAt, sheets: steps, checkpoints: steps, play });
  useEffect(() => {
    const key = (down) => (event) => { if (event.key === "f" && !typing(event)) setOther(down); };
    const down = key(true), up = key(false);
    addEventListener("keydown", down);
    addEventListener("keyup", up);
    return () => { removeEventListener("keydown", down); removeEventListener("keyup", up); };
  }, []);
  if (names.length < 2) return html`<${Note}>Mark two runs or more in the <${Link} to="/">list<//>.<//>`;
  if (mistake) return html`<${Note} mistake=${mistake} />`;
  if (!runs.length) return html`<p class="note">Reading …</p>`;
  const sheets = runs.map((run) => sheetAt(run, axis, at));
  const grid = runs[0].grid, columns = fitting(grid, view === "grid" ? (innerWidth < 700 ? width : width / runs.length) : Math.min(width, 720));
  const axisLabel = axis === "hours" ? "Hours" : axis === "images" ? "Images" : "Step";
  return html`<div class="head"><h1>Side by side</h1><span class="spring"></span>
      <div class="tabs" role="group" aria-label="View">${VIEWS.map(([key, title]) => html`<button aria-pressed=${view === key} onClick=${() => setParams({ view: key })}>${title}</button>`)}</div>
      <label>by <select value=${axis} onChange=${(event) => setParams({ by: event.target.value, at: null })}>${Object.keys(AXES).map((key) => html`<option value=${key} selected=${key === axis}>${key}</option>`)}</select></label></div>
    <${Ruler} axis=${axis} label=${axisLabel} at=${at} setAt=${setAt} most=${most} steps=${steps} playing=${playing} play=${play} />
    <div ref=${box}>${view === "grid" ? html`<div class=${`cells of${runs.length}`}>${runs.map((run, index) => html`<${Cell} key=${run.name} run=${run} sheet=${sheets[index]} columns=${columns} axis=${axis} />`)}</div>`
      : html`<${Pair} view=${view} pair=${runs.slice(0, 2)} sheets=${sheets} columns=${columns} share=${share} setShare=${setShare} other=${other} setOther=${setOther} />`}</div>
    ${view !== "grid" && runs.length > 2 && html`<p class="note">The first two are shown: ${runs[0].name}, ${runs[1].name}.</p>`}
    <${Comparable} names=${names} />
    <${Command} text=${command("compare", names)} />
    ${!runs[0].read_only && html`<${Save} run=${names[0]} act="save-comparison" options=${{ others: names.slice(1) }} />`}`;
}

function Ruler({ axis, label, at, setAt, most, steps, playing, play }) {
  if (axis === "step") return html`<${Timeline} first=${0} last=${most} step=${Math.round(at)} setStep=${setAt} playing=${playing} play=${play} marks=${{ sheets: steps, checkpoints: [], marks: [] }} />`;
  const words = axis === "hours" ? `${number(at)} hours` : `${count(at)} images`;
  return html`<section class="timeline" aria-label="Timeline"><div class="transport"><button onClick=${play} aria-pressed=${playing} aria-label=${playing ? "Stop" : "Play"}>${playing ? "◼" : "▶"}</button><b>${words}</b></div>
    <div class="track"><div class="ticks" aria-hidden="true">${steps.map((value) => html`<i class="sheet" style=${`left:${(100 * value) / (most || 1)}%`}></i>`)}</div>
      <input type="range" min="0" max=${most} step=${axis === "hours" ? most / 1000 : 1} value=${at} aria-label=${label} aria-valuetext=${words} onInput=${(event) => setAt(Number(event.target.value))} /></div></section>`;
}
