// Draw: new samples from the weights in this page, at any of the moments that were saved, without a server.
import { Command, command, count, html, Note, number, useLayoutEffect, useMemo, useRef, useState } from "./base.js";

const text = (id) => document.getElementById(id)?.textContent;
const MANY = 16, AT_ONCE = 4;

// The worker with the model: [state by place, ask(place, parts, how)], as drawer.js has it.
function useDrawer(model) {
  const worker = useRef(null), number = useRef(0), [places, set] = useState({});
  const change = (place, part) => set((old) => ({ ...old, [place]: { images: [], ...old[place], ...part(old[place] ?? { images: [] }) } }));
  useLayoutEffect(() => {
    const source = URL.createObjectURL(new Blob([text("drawer")], { type: "text/javascript" })), size = model.shape.reduce((a, b) => a * b, 1);
    worker.current = new Worker(source);
    worker.current.onmessage = ({ data }) => change(data.place, (old) => {
      if (data.id !== old.id) return {};
      if (data.mistake) return { mistake: data.mistake, busy: false };
      const images = [...old.images];
      for (let at = 0; at < data.pixels.length / size; at += 1) images[data.at + at] = data.pixels.subarray(at * size, (at + 1) * size);
      return { images, busy: data.left > 0, seconds: data.seconds };
    });
    worker.current.onerror = (event) => change("board", () => ({ mistake: event.message || "The engine did not start.", busy: false }));
    worker.current.postMessage({ model: text("model"), engine: text("engine") });
    return () => { worker.current.terminate(); URL.revokeObjectURL(source); };
  }, []);
  const ask = (place, parts, how) => {
    const id = (number.current += 1);
    change(place, (old) => ({ id, busy: true, mistake: null, images: place === "board" ? old.images : [] }));
    worker.current.postMessage({ place, id, parts, how });
  };
  return [places, ask];
}

// Grey levels (C, H, W) on a canvas.
function Picture({ pixels, shape, label, pressed, click }) {
  const canvas = useRef(null), [channels, height, width] = shape;
  useLayoutEffect(() => {
    if (!pixels || !canvas.current) return;
    const image = new ImageData(width, height), plane = height * width;
    for (let at = 0; at < plane; at += 1) {
      for (let channel = 0; channel < 3; channel += 1) image.data[4 * at + channel] = pixels[channels >= 3 ? channel * plane + at : at];
      image.data[4 * at + 3] = channels === 4 ? pixels[3 * plane + at] : 255;
    }
    canvas.current.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
  }, [pixels]);
  return html`<button class="drawn" aria-pressed=${click ? pressed : undefined} disabled=${!click} aria-label=${label} onClick=${click || undefined}><canvas class="pixels" ref=${canvas} width=${width} height=${height}></canvas></button>`;
}

function Slider({ label, value, min, max, step, words, set }) {
  return html`<label class="slider"><span>${label}</span><input type="range" min=${min} max=${max} step=${step} value=${value} aria-valuetext=${words}
    onInput=${(event) => set(Number(event.target.value))} /><output>${words ?? number(value)}</output></label>`;
}

export function Draw({ run }) {
  const model = useMemo(() => JSON.parse(text("model") ?? "null"), []);
  if (!model) return html`<${Note}>This page was saved without its model: <code>safelight report ${run.facts.name} --with-model</code>.<//>`;
  return html`<${Board} run=${run} model=${model} />`;
}

function Board({ run, model }) {
  const last = model.steps.length - 1;
  const [wish, set] = useState({ moment: last, first: 0, stated: {}, guidance: model.guidance ?? 1, evaluations: model.chosen });
  const [through, show] = useState(null); // the specimen that is shown at every moment
  const [places, ask] = useDrawer(model), state = places.board ?? { images: [], busy: true };
  const { moment, first, stated, guidance, evaluations } = wish;
  const numbers = Array.from({ length: MANY }, (_, at) => first + at);
  const kinds = Object.entries(model.conditions), label = model.conditions.label, attributes = model.conditions.attributes;
  const how = { stated, guidance, evaluations };
  useLayoutEffect(() => { // in the same commit, so that nothing is shown as done that is not
    const parts = Array.from({ length: MANY / AT_ONCE }, (_, part) => ({ at: part * AT_ONCE, moment, numbers: numbers.slice(part * AT_ONCE, (part + 1) * AT_ONCE) }));
    ask("board", parts, how);
  }, [wish]);
  useLayoutEffect(() => {
    if (through !== null) ask("through", model.steps.map((_, at) => ({ at, moment: at, numbers: [through] })), how);
  }, [through, stated, guidance, evaluations]);
  const change = (part) => set({ ...wish, ...part });
  const most = Object.keys(model.given).length ? 64 : Infinity;
  const name = run.facts.name, id = (at) => `${model.step}.${at}`;
  return html`<div class="centre"><div class="left">
      <div class="board" aria-busy=${state.busy}>${numbers.map((at, place) => html`<${Picture} key=${place} pixels=${state.images[place]} shape=${model.shape} label=${`Specimen ${id(at)}`} pressed=${through === at} click=${last > 0 && (() => show(through === at ? null : at))} />`)}</div>
      <p class="note" aria-live="polite"><b>step ${count(model.steps[moment])}</b> · specimens ${id(first)} to ${id(first + MANY - 1)} · ${state.seconds ? `${number(state.seconds)} s an image` : "starting the engine …"} · ${model.verdicts[moment]}</p>
      <${Note} mistake=${state.mistake} /></div>
    <div class="right"><div class="sliders drawing">
      ${last > 0 && html`<${Slider} label="moment" value=${moment} min=${0} max=${last} step=${1} words=${`step ${count(model.steps[moment])}`} set=${(value) => change({ moment: value })} />`}
      ${model.programs && kinds.length > 0 && html`<${Slider} label="guidance" value=${guidance} min=${0} max=${8} step=${0.1} set=${(value) => change({ guidance: value })} />`}
      ${model.programs && html`<label class="slider"><span>evaluations</span><select value=${evaluations} onChange=${(event) => change({ evaluations: Number(event.target.value) })}>${Object.keys(model.programs).map((each) => html`<option value=${each} selected=${Number(each) === evaluations}>${each}</option>`)}</select></label>`}
      ${attributes && model.given.attributes && attributes.names.map((title, at) => html`<${Slider} label=${title} value=${stated?.attributes?.[at] ?? 0.5} min=${0} max=${1} step=${0.05} words=${stated?.attributes ? undefined : "as drawn"}
        set=${(value) => { const next = [...(stated?.attributes ?? attributes.names.map(() => 0.5))]; next[at] = value; change({ stated: { ...stated, attributes: next } }); }} />`)}</div>
      ${label && html`<div class="choices" role="group" aria-label="Class">
        <button aria-pressed=${stated !== null && stated.label === undefined} onClick=${() => change({ stated: {} })}>as drawn</button>
        ${Array.from({ length: label.size }, (_, at) => html`<button aria-pressed=${stated?.label === at} onClick=${() => change({ stated: { label: at } })}>${label.names[at] ?? at}</button>`)}
        <button aria-pressed=${stated === null} onClick=${() => change({ stated: null })}>none</button></div>`}
      ${attributes && stated?.attributes && html`<div class="row"><button onClick=${() => change({ stated: {} })}>attributes as drawn</button></div>`}
      <div class="row"><button disabled=${!first} onClick=${() => change({ first: Math.max(0, first - MANY) })}>Before</button>
        <button disabled=${first + MANY >= most} onClick=${() => change({ first: first + MANY })}>More</button></div>
      <p class="note">${stated && Object.keys(stated).length === 0 && guidance === (model.guidance ?? 1) && evaluations === model.chosen
        ? `As the run draws them.${last > 0 ? " A click shows one through training." : ""}` : "Changed: no longer the specimens of the run."}</p>
      <${Command} text=${command("specimens", name, "--step", model.step, "-n", first + MANY, "--out", "sheet.png")} />
      <p class="note">Drawn here, from the weights in this page (${model.average}, rounded to bfloat16), in float32 and without a server.</p></div></div>
    ${through !== null && html`<${Through} model=${model} state=${places.through} specimen=${through} choose=${(value) => change({ moment: value })} />`}`;
}

// One specimen with the weights of every moment.
function Through({ model, state, specimen, choose }) {
  return html`<section aria-label=${`Specimen ${model.step}.${specimen} through training`}><h2>${model.step}.${specimen} through training</h2>
    <div class="board through" aria-busy=${!!state?.busy}>${model.steps.map((step, at) => html`<figure><${Picture} pixels=${state?.images[at]} shape=${model.shape} label=${`at step ${count(step)}`} click=${() => choose(at)} /><figcaption>${count(step)}</figcaption></figure>`)}</div>
    <${Note} mistake=${state?.mistake} /></section>`;
}
