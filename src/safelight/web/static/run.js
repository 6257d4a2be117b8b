// A run: its head, and the screen below it. On the first one the timeline drives the sheet and the curves.
import { ago, count, get, html, Link, Note, runPath, saved, setParams, useAnswer, useChanges, useEffect, useMemo, useRef, useState, runUrl } from "./base.js";
import { Acts } from "./acts.js";
import { Save } from "./jobs.js";
import { Curves } from "./curves.js";
import { Disk, Health, Journal, Measure } from "./facts.js";
import { Model } from "./model.js";
import { Pick } from "./pick.js";
import { Figures, Sheet } from "./sheet.js";
import { Specimens } from "./specimens.js";
import { Happened, Timeline, useKeys, useMarks, usePlay } from "./timeline.js";

const SCREENS = [["", "Timeline"], ["specimens", "Specimens"], ["model", "Model"], ["pick", "Pick"], ["measure", "Measure"], ["health", "Health"], ["disk", "Disk"], ["journal", "Journal"]]
  .filter(([key]) => !saved || ["", "measure", "health", "journal"].includes(key)).concat(saved?.screens ?? []);

function Head({ run, screen, step }) {
  const { name, status, recipe, parent, images, verdicts } = run.facts;
  return html`<div class="head run">${!saved && !run.read_only && html`<${Save} run=${name} />`}<h1>${name}</h1>
    <p><span class=${`status ${status}`}>${status}</span> · step ${count(run.facts.step)} of ${count(run.planned)} · ${count(images)} images · ${recipe}${parent && html` · from ${parent.name && saved ? parent.name : parent.name ? html`<${Link} to=${runPath(parent.name, "", { step: parent.step })}>${parent.name}<//>` : "a run that is not here"} at step ${count(parent.step)}`}${" · "}<time datetime=${run.created} title=${run.created}>${ago(run.created)}</time>${verdicts.length > 0 && html` · <${Link} class="verdict" to=${runPath(name, "health")}>${verdicts.join(", ")}<//>`}</p>
    <nav class="screens" aria-label=${`Screens of ${name}`}>${SCREENS.map(([key, title]) => html`<${Link} to=${runPath(name, key, { step })} aria-current=${key === screen ? "page" : undefined}>${title}<//>`)}</nav></div>`;
}

function Centre({ run, step, setStep, again }) {
  const marks = useMarks(run);
  const last = Math.max(run.facts.step, run.sheets.at(-1)?.step ?? 0, 1);
  const [playing, play] = usePlay(marks.sheets, step, setStep);
  useKeys({ step, setStep, sheets: marks.sheets, checkpoints: marks.checkpoints, play });
  const edits = useMemo(() => marks.marks.filter((mark) => mark.kind === "edit"), [marks]);
  return html`<${Timeline} first=${run.first} last=${last} step=${step} setStep=${setStep} marks=${marks} playing=${playing} play=${play} />
    <div class="centre"><div class="left"><${Sheet} run=${run} step=${step} /><${Figures} run=${run} step=${step} /></div>
      <div class="right"><${Happened} marks=${marks} step=${step} />
        <${Curves} run=${run} parent=${run.facts.parent?.name || null} step=${step} setStep=${setStep} edits=${edits} />
        <${Acts} run=${run} step=${step} again=${again} /></div></div>
    ${run.problems.map((problem) => html`<${Note} mistake=${problem} />`)}`;
}

// screens: more of them, by name, for what is common to all.
export function RunScreen({ name, screen, params, screens }) {
  const [run, mistake, again] = useAnswer(runUrl(name), name);
  const read = useRef(Date.now());
  useChanges(`~${name}`, () => { if (Date.now() - read.current > 10_000) { read.current = Date.now(); again(); } }); // how far it is
  useEffect(() => { document.title = `${name} · safelight`; }, [name]);
  useEffect(() => { document.querySelector(".screens [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); }, [!!run, screen]);
  const [dragged, drag] = useState(null);
  const newest = run ? run.sheets.at(-1)?.step ?? run.facts.step : 0;
  const said = params.get("step");
  const step = dragged ?? (said === null ? newest : Math.max(0, Math.round(Number(said)) || 0)); // none said: follow the newest
  const setStep = (to) => drag(to);
  useEffect(() => {
    if (dragged === null) return undefined;
    const timer = setTimeout(() => setParams({ step: dragged === newest && run.facts.status === "running" ? null : dragged }), 120);
    return () => clearTimeout(timer);
  }, [dragged]);
  useEffect(() => { if (dragged !== null && (said === null ? newest : Number(said)) === dragged) drag(null); }, [said, newest]);
  if (mistake && !run) return html`<${Note} mistake=${mistake} />`;
  if (!run) return html`<p class="note">Reading ${name} …</p>`;
  const shared = { run, step, setStep, again };
  const body = {
    "": html`<${Centre} ...${shared} />`, specimens: html`<${Specimens} ...${shared} />`, model: html`<${Model} ...${shared} />`,
    pick: html`<${Pick} ...${shared} />`, ...screens?.(shared), measure: html`<${Measure} ...${shared} />`, health: html`<${Health} ...${shared} />`,
    disk: html`<${Disk} ...${shared} />`, journal: html`<${Journal} ...${shared} />`,
  }[screen];
  return html`<${Head} run=${run} screen=${screen} step=${said === null ? null : step} />${body ?? html`<${Note}>There is no screen of that name.<//>`}`;
}
