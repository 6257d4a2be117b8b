// Act here: what can be done to a run at the step shown. Every act is a command, and shows it.
import { Command, command, count, go, html, Note, number, runPath, saved, useMemo, useState, worded } from "./base.js";
import { JobLine, useAct } from "./jobs.js";

const parsed = (text) => {
  const value = text.trim();
  if (value === "true" || value === "false") return value === "true";
  return value !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
};

// Keys with the values in force, and what they should become.
function Changes({ run, changes, setChanges, live }) {
  const [key, setKey] = useState("");
  const keys = useMemo(() => Object.keys(run.settings).filter((name) => !live || run.live.includes(name.split(".")[0])).sort(), [run.settings, live]);
  const usual = keys.filter((name) => /^optim(\.\w+)?\.lr$|^loss\.weights\./.test(name));
  const shown = [...new Set([...usual, ...Object.keys(changes)])];
  const set = (name, text) => {
    const next = { ...changes };
    if (text === null || text === worded(run.settings[name])) delete next[name];
    else next[name] = parsed(text);
    setChanges(next);
  };
  return html`<div class="changes">
    ${shown.map((name) => {
      const now = run.settings[name], value = changes[name] ?? now;
      const times = (factor) => set(name, String(Number((Number(value) * factor).toPrecision(6))));
      return html`<div class=${`change ${name in changes ? "changed" : ""}`}><label>${name}
        <input value=${worded(value)} size="10" onChange=${(event) => set(name, event.target.value)} /></label>
        ${typeof now === "number" && html`<button type="button" class="quiet" onClick=${() => times(0.5)} aria-label=${`Half of ${name}`}>½</button>
          <button type="button" class="quiet" onClick=${() => times(2)} aria-label=${`Twice ${name}`}>×2</button>`}
        <small>${name in changes ? html`in force: ${worded(now)} <button type="button" class="quiet" onClick=${() => set(name, null)} aria-label=${`Leave ${name} as it is`}>undo</button>` : "in force"}</small></div>`;
    })}
    <label class="another">another key <input list="keys-of-run" value=${key} placeholder="watch.every" onInput=${(event) => {
      const name = event.target.value;
      setKey(name);
      if (name in run.settings) { setChanges({ ...changes, [name]: run.settings[name] }); setKey(""); }
    }} /></label>
    <datalist id="keys-of-run">${keys.map((name) => html`<option value=${name}>${worded(run.settings[name])}</option>`)}</datalist></div>`;
}

const changed = (run, changes) => Object.fromEntries(Object.entries(changes).filter(([name, value]) => worded(value) !== worded(run.settings[name])));
const words = (changes) => Object.entries(changes).map(([name, value]) => `${name}=${worded(value)}`);

function Edit({ run, again }) {
  const [changes, setChanges] = useState({});
  const [start, job, mistake] = useAct((ended) => { if (ended.status === "done") { setChanges({}); again(); } });
  const name = run.facts.name, wanted = changed(run, changes);
  return html`<form onSubmit=${(event) => { event.preventDefault(); start("tune", name, { changes: wanted }); }}>
    <p class="note">${run.facts.status === "running" ? "Takes effect at its next step, and is drawn on the curves once the journal has it." : "Takes effect when the run is resumed."}</p>
    <${Changes} run=${run} changes=${changes} setChanges=${setChanges} live />
    ${Object.keys(wanted).length > 0 && html`<${Command} text=${command("tune", name, words(wanted))} />`}
    <button disabled=${!Object.keys(wanted).length}>Edit from the next step on</button>
    ${run.waiting > 0 && html`<p class="note">${run.waiting} edit${run.waiting > 1 ? "s wait" : " waits"} for the next step.</p>`}
    <${Note} mistake=${mistake} /><${JobLine} job=${job} quiet /></form>`;
}

function Fork({ run, step, back }) {
  const [changes, setChanges] = useState({}), [title, setTitle] = useState(""), [train, setTrain] = useState(true);
  const name = run.facts.name, wanted = changed(run, changes), act = back ? "rollback" : "fork";
  const [start, job, mistake] = useAct((ended) => { if (ended.status === "done" && ended.result) go(runPath(ended.result.name)); });
  const send = (event) => {
    event.preventDefault();
    start(act, name, { step, changes: wanted, train, ...(back || !title ? {} : { name: title }) });
  };
  return html`<form onSubmit=${send}>
    <p class="note">${back ? html`${name} goes on from step ${count(step)}; as it was, it is kept as ${name}-before-${step}.` : html`A new run from step ${count(step)}, with what you change. ${name} stays as it is.`}</p>
    <${Changes} run=${run} changes=${changes} setChanges=${setChanges} />
    <div class="row">${!back && html`<label>name <input value=${title} placeholder="automatic" pattern="\\w[\\w.+=\\-]*" onInput=${(event) => setTitle(event.target.value)} /></label>`}
      <label><input type="checkbox" checked=${train} onChange=${() => setTrain(!train)} />train it now</label></div>
    <${Command} text=${command(act, name, "--step", step, words(wanted), !back && title ? ["--name", title] : [], train ? [] : "--no-train")} />
    <button disabled=${back && step < 1}>${back ? `Roll back to step ${count(step)}` : `Fork step ${count(step)}`}</button>
    <${Note} mistake=${mistake} /><${JobLine} job=${job} quiet /></form>`;
}

function Resume({ run, again }) {
  const [steps, setSteps] = useState(run.planned), [schedule, setSchedule] = useState("");
  const [start, job, mistake] = useAct(() => again());
  const name = run.facts.name, finished = run.facts.status === "finished";
  const more = finished || steps > run.planned;
  return html`<form onSubmit=${(event) => { event.preventDefault(); start("resume", name, more ? { steps, ...(schedule ? { schedule } : {}) } : {}); }}>
    <p class="note">${finished ? `It finished at step ${count(run.facts.step)}.` : `It is at step ${count(run.facts.step)} of ${count(run.planned)}.`}</p>
    <label>until step <input type="number" min=${run.facts.step + (finished ? 1 : 0)} value=${steps} onInput=${(event) => setSteps(Number(event.target.value))} /></label>
      <label>learning rate <select value=${schedule} onChange=${(event) => setSchedule(event.target.value)}><option value="">as recommended</option><option value="constant">stays as it is</option><option value="restart">begins again</option><option value="extend">that of the new length</option></select></label>
    <${Command} text=${command("resume", name, more ? ["--steps", steps, ...(schedule ? ["--schedule", schedule] : [])] : [])} />
    <button disabled=${finished && !(steps > run.facts.step)}>${finished ? "Train longer" : "Resume"}</button>
    <${Note} mistake=${mistake} /><${JobLine} job=${job} quiet /></form>`;
}

function Pin({ run, step, again }) {
  const name = run.facts.name, [title, setTitle] = useState("");
  const [start, job, mistake] = useAct(() => again());
  const pins = Object.entries(run.pins);
  return html`<form onSubmit=${(event) => { event.preventDefault(); start("pin", name, { step, name: title }); }}>
    <p class="note">A pinned checkpoint is never deleted, and its name can be used in place of its step.${pins.length > 0 && ` Pinned: ${pins.map(([key, pin]) => `${key} (step ${count(pin.step)})`).join(", ")}.`}</p>
    <div class="row"><label>name <input value=${title} required pattern="[a-z][a-z0-9\\-]*" onInput=${(event) => setTitle(event.target.value)} /></label></div>
    <${Command} text=${command("pin", name, "--step", step, "--name", title || "NAME")} />
    <button>Pin step ${count(step)}</button><${Note} mistake=${mistake} /><${JobLine} job=${job} quiet /></form>`;
}

export function Acts({ run, step, again }) {
  const status = run.facts.status, over = status === "finished" || status === "left";
  const offered = [
    !over && ["edit", "Edit"], ["fork", "Fork"], status !== "running" && ["back", "Roll back"],
    status !== "running" && run.facts.checkpoints.includes(step) && ["pin", "Pin"],
    status !== "running" && status !== "left" && ["resume", over ? "Train longer" : "Resume"],
  ].filter(Boolean);
  const [open, set] = useState(null);
  if (saved) return null;
  if (run.read_only) return html`<p class="note">Read only: nothing can be changed here.</p>`;
  return html`<section class="acts" aria-label="Act here"><h2>Act here</h2>
    <div class="tabs" role="group">${offered.map(([key, title]) => html`<button aria-expanded=${open === key} onClick=${() => set(open === key ? null : key)}>${title}</button>`)}</div>
    ${over && html`<p class="note">This run is ${status}; to change its settings, fork a step.</p>`}
    ${open === "edit" && html`<${Edit} run=${run} again=${again} />`}
    ${open === "fork" && html`<${Fork} run=${run} step=${step} />`}
    ${open === "back" && html`<${Fork} run=${run} step=${step} back />`}
    ${open === "pin" && html`<${Pin} run=${run} step=${step} again=${again} />`}
    ${open === "resume" && html`<${Resume} run=${run} again=${again} />`}</section>`;
}
