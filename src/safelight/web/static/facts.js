// Measure, health, disk and journal of a run.
import { brief, bytes, Command, command, count, html, Note, number, runPath, runUrl, useAnswer, useState, worded, Link } from "./base.js";
import { JobLine, useAct } from "./jobs.js";

const LOWER = /^(FD|KID|FID|bpd|mse)/;

export function Measure({ run, step, again }) {
  const [n, setN] = useState(1000), [at, setAt] = useState(run.facts.checkpoints.at(-1));
  const [start, job, mistake] = useAct(() => again());
  const name = run.facts.name;
  return html`<section class="facts"><h2>Evaluations</h2>
    ${!run.measured.length && html`<p class="note">Nothing is measured yet.</p>`}
    ${run.measured.length > 0 && html`<table><thead><tr><th>metric</th><th>value</th><th>real against real</th><th>better</th><th>step</th><th>n</th></tr></thead>
      <tbody>${run.measured.map((metric) => html`<tr><th scope="row">${metric.name}</th>
        <td class="figure"><b>${number(metric.value)}</b>${metric.spread !== null && html` <small>± ${number(metric.spread)}</small>`}</td>
        <td class="figure">${metric.floor === null ? "–" : number(metric.floor)}</td>
        <td>${LOWER.test(metric.name) ? "lower" : "higher"}</td><td class="figure">${count(metric.step)}</td>
        <td><details><summary>${metric.basis.n ?? metric.basis.samples ?? "rests on"}</summary><dl>${Object.entries(metric.basis).map(([key, value]) => html`<dt>${key}</dt><dd>${value}</dd>`)}</dl></details></td></tr>`)}</tbody></table>`}
    ${!run.read_only && run.facts.checkpoints.length > 0 && html`<h2>Evaluate</h2>
      <form onSubmit=${(event) => { event.preventDefault(); start("evaluate", name, { step: at, n }); }}><div class="row">
        <label>checkpoint <select value=${at} onChange=${(event) => setAt(Number(event.target.value))}>${run.facts.checkpoints.map((each) => html`<option value=${each} selected=${each === at}>${count(each)}</option>`)}</select></label>
        <label>samples <input type="number" min="20" value=${n} onInput=${(event) => setN(Number(event.target.value))} /></label></div>
        <${Command} text=${command("evaluate", name, "--step", at, "--n", n)} />
        <button>Evaluate</button><${Note} mistake=${mistake} /><${JobLine} job=${job} /></form>`}</section>`;
}

function Finding({ run, finding, again }) {
  const [start, job, mistake] = useAct(() => again());
  const name = run.facts.name;
  const ignored = [...(run.settings["monitor.ignore"] ?? []), finding.name];
  const going = !["finished", "left"].includes(run.facts.status);
  return html`<article class="finding"><h3>${finding.name}</h3>
    <dl><dt>measured</dt><dd>${finding.measured || "before the fork"}</dd><dt>expected</dt><dd>${finding.expected || "–"}</dd>
      <dt>since</dt><dd>${finding.since === null ? "before the fork" : html`<${Link} to=${runPath(name, "", { step: finding.since })}>step ${count(finding.since)}<//>`}</dd></dl>
    ${finding.remedies.length > 0 && html`<h4>What helps</h4><ol class="remedies">${finding.remedies.map((remedy) => html`<li><p>${remedy.words}
      ${remedy.live && !run.read_only && html` <button onClick=${() => start("fork", name, { step: finding.rescue, changes: remedy.changes })}>Fork step ${count(finding.rescue)} with it</button>`}</p>
      <${Command} text=${remedy.command} /></li>`)}</ol>`}
    ${going && !run.read_only && html`<div class="row"><button class="quiet" onClick=${() => start("tune", name, { changes: { "monitor.ignore": ignored } })}>Ignore this</button>
      <${Command} text=${command("tune", name, `monitor.ignore=${worded(ignored)}`)} /></div>`}
    <${Note} mistake=${mistake} /><${JobLine} job=${job} /></article>`;
}

export function Health({ run, again }) {
  const past = run.marks.filter((mark) => mark.kind === "verdict");
  return html`<section class="facts"><h2>Warnings</h2>
    ${!run.health.length && html`<p>No warnings.</p>`}
    ${run.health.map((finding) => html`<${Finding} key=${finding.name} run=${run} finding=${finding} again=${again} />`)}
    ${run.facts.remedies.length > 0 && html`<h2>Remedies</h2><ul>${run.facts.remedies.map((text) => html`<li>${text}</li>`)}</ul>`}
    ${past.length > 0 && html`<h2>Through training</h2><table><thead><tr><th>step</th><th>verdict</th><th>measured</th></tr></thead>
      <tbody>${past.map((mark) => html`<tr><td class="figure"><${Link} to=${runPath(run.facts.name, "", { step: mark.step })}>${count(mark.step)}<//></td>
        <td>${mark.begins ? mark.name : `no longer ${mark.name}`}</td><td>${mark.measured ?? ""}</td></tr>`)}</tbody></table>`}</section>`;
}

export function Disk({ run, again }) {
  const name = run.facts.name;
  const [disk, mistake, reread] = useAnswer(`${runUrl(name)}/disk`, name);
  const [budget, setBudget] = useState("");
  const [look, seen, refused] = useAct();
  const [prune, freed, failed] = useAct(() => { reread(); again(); });
  if (!disk) return html`<${Note} mistake=${mistake}>Reading …<//>`;
  const plan = seen?.status === "done" ? seen.result : null;
  const options = budget ? { budget } : {};
  const most = Math.max(...Object.values(disk.kinds));
  return html`<section class="facts"><h2>${bytes(disk.bytes)}</h2>
    <table class="bars"><tbody>${Object.entries(disk.kinds).map(([kind, size]) => html`<tr><th scope="row">${kind}</th><td class="figure">${bytes(size)}</td>
      <td class="share"><meter max=${most} value=${size} aria-label=${kind}></meter></td></tr>`)}</tbody></table>
    <p class="note">${run.facts.replay}</p>
    <h2>Checkpoints <small>budget ${bytes(disk.budget)}</small></h2>
    <table><thead><tr><th>step</th><th>size</th><th>kept because</th></tr></thead><tbody>${disk.checkpoints.map((held) => html`<tr>
      <td class="figure"><${Link} to=${runPath(name, "", { step: held.step })}>${count(held.step)}<//></td><td class="figure">${bytes(held.bytes)}</td>
      <td>${held.why.join(", ")}${held.surplus && " · over the budget"}</td></tr>`)}</tbody></table>
    ${!run.read_only && html`<h2>Prune</h2><form onSubmit=${(event) => { event.preventDefault(); look("preview-prune", name, options); }}>
      <div class="row"><label>to a budget of <input value=${budget} placeholder="the recipe's" size="10" onInput=${(event) => setBudget(event.target.value)} /></label><button>Show what would go</button></div>
      <${Command} text=${command("prune", name, budget ? ["--budget", budget] : [], "--dry-run")} />
      <${Note} mistake=${refused ?? (seen?.status === "failed" ? seen.output.trim().split("\n").at(-1) : null)} />
      ${seen?.status === "running" && html`<p class="note">Looking …</p>`}
      ${plan && html`<p>${plan.steps.length ? html`Step${plan.steps.length > 1 ? "s" : ""} ${plan.steps.map(count).join(", ")}: ${bytes(plan.bytes)} would be freed. Any step stays within ${count(plan.longest_replay)} steps.` : plan.bytes ? `${bytes(plan.bytes)} of damaged ones would be freed.` : "Nothing would go."}</p>
        ${plan.bytes > 0 && html`<button type="button" onClick=${() => prune("prune", name, options)}>Free ${bytes(plan.bytes)}</button>`}`}
      <${Note} mistake=${failed} /><${JobLine} job=${freed} /></form>`}</section>`;
}

export function Journal({ run }) {
  const name = run.facts.name;
  const [entries, mistake] = useAnswer(`${runUrl(name)}/journal`, name);
  if (!entries) return html`<${Note} mistake=${mistake}>Reading …<//>`;
  const said = ({ time, kind, session, environment, code, id, advice, ...fields }) => Object.entries(fields).filter(([, value]) => value !== "").map(([key, value]) => `${key} ${value && typeof value === "object" ? Object.entries(value).map(([name, each]) => `${name} = ${worded(each)}`).join(", ") : value}`).join(" · ");
  return html`<section class="facts"><h2>Journal</h2><p class="note">What happened, written before it took effect. The newest is on top.</p>
    <table class="journal"><tbody>${entries.slice(-500).reverse().map((entry) => html`<tr><td><time>${entry.time.slice(0, 19).replace("T", " ")}</time></td><th scope="row">${entry.kind}</th><td>${brief(said(entry))}</td></tr>`)}</tbody></table></section>`;
}
