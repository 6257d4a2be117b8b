// The model: conditions, directions, guidance, seed and step under sliders. While one moves, few evaluations of few
// images are drawn, and only the latest; when it is let go, all of them.
import { Command, command, count, html, Note, post, useEffect, useRef, useState, worded } from "./base.js";
import { Timeline, useMarks } from "./timeline.js";
import { useWidth, Verdict } from "./sheet.js";
import { Mask } from "./mask.js";
import { Project } from "./project.js";

// Ask for pictures; of many requests in a row the latest wins: [answer, mistake, busy, ask].
export function usePictures(place) {
  const [answer, set] = useState(null), [mistake, fail] = useState(null), [busy, work] = useState(0);
  const number = useRef(0);
  const ask = async (request) => {
    const mine = ++number.current;
    work((many) => many + 1);
    try {
      const got = await post("/api/model", { place, ...request });
      if (!got.superseded && mine >= number.current) { set(got); fail(null); }
      return got;
    } catch (error) {
      if (mine === number.current) fail(error.message);
      return null;
    } finally {
      work((many) => many - 1);
    }
  };
  return [answer, mistake, busy > 0, ask];
}

function Slider({ label, value, min, max, step, set, done, reset }) {
  return html`<label class="slider"><span>${label}</span><input type="range" min=${min} max=${max} step=${step} value=${value}
    onInput=${(event) => set(Number(event.target.value))} onChange=${(event) => done(Number(event.target.value))} />
    <output>${Number(Number(value).toPrecision(4))}</output>${reset !== undefined && html`<button type="button" class="quiet" onClick=${() => done(reset)} aria-label=${`Reset ${label}`}>↺</button>`}</label>`;
}

const START = { seed: 0, count: 16, conditions: {}, how: {}, directions: {} };

export function Model({ run, step: shown, setStep }) {
  const name = run.facts.name, marks = useMarks(run);
  const last = Math.max(...run.facts.checkpoints, 0);
  const [step, choose] = useState(run.facts.checkpoints.includes(shown) ? shown : last);
  const [opened, openMistake, opening, open] = usePictures("open");
  const [picture, mistake, busy, ask] = usePictures("model");
  const [wish, setWish] = useState(START);
  const [kinds, setKinds] = useState({ kind: "pca", many: 4 });
  const [box, width] = useWidth();
  const there = opened?.conditions ? opened : null;
  const draw = (next, dragging) => {
    const how = { ...next.how };
    if (dragging && there?.sample.steps) how.steps = Math.min(6, next.how.steps ?? there.sample.steps);
    const many = dragging ? Math.min(next.count, 9) : next.count;
    const columns = Math.ceil(Math.sqrt(many));
    return ask({ op: "draw", run: name, step, seed: next.seed, count: many, columns, conditions: next.conditions, how, directions: next.directions });
  };
  const change = (part, dragging) => { const next = { ...wish, ...part }; setWish(next); draw(next, dragging); };
  const condition = (key, value, dragging) => {
    const conditions = { ...wish.conditions };
    if (value === "" || value === null) delete conditions[key]; else conditions[key] = value;
    change({ conditions }, dragging);
  };
  const start = async () => { if (await open({ op: "describe", run: name, step })) draw(wish); };
  useEffect(() => { if (there && there.step !== step) start(); }, [step]);
  if (!run.facts.checkpoints.length) return html`<p class="note">There is no checkpoint yet.</p>`;
  const words = command("sample", name, "--step", step, "--n", wish.count, "--seed", wish.seed,
    Object.entries(wish.conditions).flatMap(([key, value]) => ["--condition", `${key}=${String(value).startsWith("data:") ? `${key}.png` : value}`]),
    Object.entries(wish.how).map(([key, value]) => `sample.${key}=${worded(value)}`));
  const moved = Object.entries(wish.directions).filter(([, by]) => by);
  const along = moved.length === 1 && command("traverse", name, "--step", step, "--seed", wish.seed, "--direction", `${moved[0][0]}=${Math.min(0, moved[0][1])}..${Math.max(0, moved[0][1])}`);
  return html`<${Timeline} first=${run.first} last=${Math.max(last, run.facts.step)} step=${step} setStep=${choose} marks=${marks} playing=${false} play=${null} label="Step of the weights" />
    <div class="centre"><div class="left" ref=${box}>
      ${picture ? html`<figure class="sheet"><img class=${`pixels ${busy ? "stale" : ""}`} src=${`data:image/png;base64,${picture.picture}`} alt=${`${picture.grid.count} samples at step ${picture.step}`} />
        <figcaption aria-live="polite"><b>step ${count(picture.step)}</b> · ${picture.grid.count} samples, seed ${wish.seed} · <${Verdict} of=${picture} /></figcaption></figure>`
        : html`<div class="empty open"><p>The model opens in a process of its own, which closes after five idle minutes.</p>
          <button onClick=${start} disabled=${opening}>${opening ? "Opening …" : `Open step ${count(step)}`}</button></div>`}
      <${Note} mistake=${openMistake ?? mistake} /><${Command} text=${along || words} /></div>
    ${there && html`<div class="right sliders"><h2>Conditions</h2>
      ${Object.entries(there.conditions).map(([key, kind]) => html`<${Condition} key=${key} name=${key} kind=${kind} shape=${there.shape} wish=${wish} set=${condition} />`)}
      ${!Object.keys(there.conditions).length && html`<p class="note">The data has none.</p>`}
      <h2>Sampling</h2>
      <div class="row"><label>seed <input type="number" min="0" value=${wish.seed} onChange=${(event) => change({ seed: Math.max(0, Math.round(Number(event.target.value)) || 0) })} /></label>
        <button type="button" class="quiet" onClick=${() => change({ seed: Math.floor(Math.random() * 1e6) })}>another</button>
        <label>images <select value=${wish.count} onChange=${(event) => change({ count: Number(event.target.value) })}>${[1, 4, 9, 16, 25, 36, 64].map((many) => html`<option value=${many} selected=${many === wish.count}>${many}</option>`)}</select></label></div>
      ${Object.entries(there.sample).map(([key, value]) => html`<${Setting} key=${key} name=${key} field=${there.fields[key]} value=${wish.how[key] ?? value} usual=${value}
        set=${(to, dragging) => change({ how: { ...wish.how, [key]: to } }, dragging)} />`)}
      <h2>Directions</h2>
      ${there.vector ? html`<div class="row"><label>kind <select value=${kinds.kind} onChange=${(event) => { setKinds({ ...kinds, kind: event.target.value }); change({ directions: {} }); }}><option value="pca">principal</option><option value="sefa">closed form</option></select></label>
          <button type="button" class="quiet" onClick=${() => setKinds({ ...kinds, many: kinds.many + 4 })}>more</button></div>
        ${Array.from({ length: kinds.many }, (_, index) => `${kinds.kind}:${index + 1}`).map((key) => html`<${Slider} key=${key} label=${key} value=${wish.directions[key] ?? 0} min="-4" max="4" step="0.1" reset=${0}
          set=${(by) => change({ directions: { ...wish.directions, [key]: by } }, true)} done=${(by) => change({ directions: { ...wish.directions, [key]: by } })} />`)}`
        : html`<p class="note">The latents of this run are pictures, not vectors as of a GAN; its conditions move it.</p>`}
      <${Project} run=${run} step=${step} obstacle=${there.obstacle} conditions=${wish.conditions} how=${wish.how} />
      <p><button type="button" class="quiet" onClick=${() => post("/api/model/release", {})}>Close the model</button></p></div>`}</div>`;
}

function Condition({ name, kind, shape, wish, set }) {
  const value = wish.conditions[name];
  if (kind.kind === "label") {
    const names = kind.names?.length ? kind.names : Array.from({ length: kind.size }, (_, index) => String(index));
    return html`<div class="choices" role="group" aria-label=${name}>${["each", ...names, "none"].map((each) => html`<button type="button" aria-pressed=${(value ?? "each") === each} onClick=${() => set(name, each)}>${each}</button>`)}</div>`;
  }
  if (kind.kind === "attributes") return html`${kind.names.map((each) => html`<${Slider} key=${each} label=${each} value=${wish.conditions[each] ?? 0.5} min="0" max="1" step="0.01"
      set=${(to) => set(each, to, true)} done=${(to) => set(each, to)} />`)}
    <p class="note">What you do not move is that of held-out images. <button type="button" class="quiet" onClick=${() => set(name, wish.conditions[name] === "none" ? null : "none")}>${wish.conditions[name] === "none" ? "with conditions" : "without any"}</button></p>`;
  if (kind.kind === "text") return html`<label class="prompt">${name} <input value=${value ?? ""} placeholder="a held-out caption" onChange=${(event) => set(name, event.target.value)} /></label>`;
  return html`<${Mask} name=${name} classes=${kind.size} names=${kind.names ?? []} shape=${shape} set=${(picture) => set(name, picture)} />`;
}

function Setting({ name, field, value, usual, set }) {
  const title = html`<span title=${field?.words}>${name}</span>`;
  if (field?.choices.length) return html`<label class="slider">${title}<select value=${value} onChange=${(event) => set(event.target.value)}>${field.choices.map((each) => html`<option value=${each} selected=${each === value}>${each}</option>`)}</select></label>`;
  if (typeof usual !== "number") return html`<label class="slider">${title}<input value=${worded(value)} onChange=${(event) => { const text = event.target.value; set(text === "null" || text === "" ? null : Number.isFinite(Number(text)) ? Number(text) : text); }} /></label>`;
  const top = name === "steps" ? Math.max(60, usual) : name === "guidance" ? Math.max(8, 2 * usual) : Math.max(1, 2 * Math.abs(usual));
  return html`<${Slider} label=${name} value=${value} min=${name === "steps" ? 1 : 0} max=${top} step=${Number.isInteger(usual) && name === "steps" ? 1 : 0.05} reset=${usual} set=${(to) => set(to, true)} done=${(to) => set(to)} />`;
}
