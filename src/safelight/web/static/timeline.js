// The timeline: one native slider over the steps of a run, and what happened on it above. It drives the screen.
import { count, html, typing, useEffect, useMemo, useRef, useState, worded } from "./base.js";

const before = (steps, at) => steps.filter((step) => step < at).at(-1);
const after = (steps, at) => steps.find((step) => step > at);

// Steps to stop at, and everything with a mark of its own.
export function useMarks(run) {
  return useMemo(() => {
    if (!run) return null;
    const sheets = run.sheets.map((sheet) => sheet.step);
    const marks = run.marks.flatMap((mark) => {
      if (mark.kind === "intervention")
        return [{ kind: "edit", step: mark.step, words: Object.entries(mark.changes).map(([key, value]) => `${key} = ${worded(value)}`).join(", ") }];
      if (mark.kind === "verdict")
        return [{ kind: "verdict", step: mark.step, words: mark.begins ? `${mark.name}: ${mark.measured ?? ""}` : `no longer ${mark.name}` }];
      if (mark.kind === "pin") return [{ kind: "pin", step: mark.step, words: `pinned as ${mark.name}` }];
      if (mark.kind === "remedy") return [{ kind: "edit", step: mark.step, words: `remedy ${mark.event}` }];
      return [];
    });
    const forks = run.forks.map((fork) => ({ kind: "fork", step: fork.step, words: `${fork.name} was forked here`, name: fork.name }));
    return { sheets, checkpoints: run.facts.checkpoints, marks: [...marks, ...forks] };
  }, [run]);
}

export function useKeys({ step, setStep, sheets, checkpoints, play }) {
  const now = useRef({});
  now.current = { step, setStep, sheets, checkpoints, play };
  useEffect(() => {
    const press = (event) => {
      const { step: at, setStep: set, sheets: shown, checkpoints: saved, play: start } = now.current;
      if (typing(event) || event.target.closest?.("dialog")) return;
      if (event.target.type === "range" && !event.target.closest(".track")) return; // another slider has its keys
      const steps = event.shiftKey ? saved : shown;
      const to = { ArrowLeft: before(steps, at), ArrowRight: after(steps, at), Home: shown[0], End: shown.at(-1) }[event.key];
      if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
        event.preventDefault();
        if (to !== undefined) set(to);
      } else if (event.key === " " && !["BUTTON", "A", "SUMMARY", "INPUT"].includes(event.target.tagName)) {
        event.preventDefault();
        start();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

// Go through sheets, four a second, from the first where the last is shown.
export function usePlay(steps, step, setStep) {
  const [playing, set] = useState(false);
  const now = useRef({});
  now.current = { steps, step, setStep };
  useEffect(() => {
    if (!playing) return undefined;
    const timer = setInterval(() => {
      const next = after(now.current.steps, now.current.step);
      if (next === undefined) set(false);
      else now.current.setStep(next);
    }, 250);
    return () => clearInterval(timer);
  }, [playing]);
  const toggle = () => {
    if (!playing && after(steps, step) === undefined && steps.length) setStep(steps[0]);
    set(!playing);
  };
  return [playing, toggle];
}

export function Timeline({ first, last, step, setStep, marks, playing, play, label = "Step" }) {
  const span = Math.max(1, last - first);
  const at = (value) => `${(100 * (value - first)) / span}%`;
  const kinds = [marks.sheets.length && "sheet", marks.checkpoints.length && "checkpoint", ...new Set(marks.marks.map((mark) => mark.kind))].filter(Boolean);
  const dense = (steps) => (steps.length > 400 ? steps.filter((_, index) => index % Math.ceil(steps.length / 400) === 0) : steps);
  return html`<section class="timeline" aria-label="Timeline">
    <div class="transport">
      ${play && html`<button onClick=${play} aria-pressed=${playing} aria-label=${playing ? "Stop" : "Play"}>${playing ? "◼" : "▶"}</button>`}
      <label class="at">${label} <input type="number" min=${first} max=${last} value=${step} aria-label="Step, typed"
        onChange=${(event) => { const to = Math.round(Number(event.target.value)); if (Number.isFinite(to)) setStep(Math.min(last, Math.max(first, to))); }} /></label>
      <small>of ${count(last)}</small><span class="spring"></span>
      <small class="key">${kinds.map((kind) => html`<i class=${kind}></i>${kind}`)}</small>
    </div>
    <div class="track">
      <div class="ticks" aria-hidden="true">
        ${dense(marks.checkpoints).map((value) => html`<i class="checkpoint" style=${`left:${at(value)}`}></i>`)}
        ${dense(marks.sheets).map((value) => html`<i class=${`sheet ${value === step ? "here" : ""}`} style=${`left:${at(value)}`}></i>`)}
        ${marks.marks.map((mark) => html`<i class=${mark.kind} title=${`step ${count(mark.step)}: ${mark.words}`} style=${`left:${at(mark.step)}`} onClick=${() => setStep(mark.step)}></i>`)}
      </div>
      <input type="range" min=${first} max=${last} value=${step} step="1" aria-label=${label} aria-valuetext=${`step ${count(step)} of ${count(last)}`}
        onInput=${(event) => setStep(Number(event.target.value))} />
    </div></section>`;
}

export function Happened({ marks, step }) {
  const near = marks.marks.filter((mark) => mark.step <= step).sort((a, b) => b.step - a.step).slice(0, 4);
  if (!near.length) return null;
  return html`<ul class="happened">${near.map((mark) => html`<li><i class=${mark.kind} aria-hidden="true"></i>
    <small>step ${count(mark.step)}</small> ${mark.words}</li>`)}</ul>`;
}
