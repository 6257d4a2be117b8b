// Runs: a table beside the tree. The newest is on top; those that are marked are compared.
import { ago, count, html, Link, Note, query, runPath, runUrl, setParams, useAnswer, useEffect } from "./base.js";

const matches = (run, words) => {
  const text = `${run.summary.name} ${run.summary.recipe} ${run.summary.status} ${run.verdicts.join(" ")} ${run.headline}`.toLowerCase();
  return words.every((word) => text.includes(word));
};

function thumb(name, sheet, most = 4) {
  return sheet && `${runUrl(name)}/tiles/${sheet.step}.png?${query({ most, columns: Math.min(most, 4), v: sheet.v })}`;
}

function Row({ run, marked, mark }) {
  const { name, status, step, steps, created, recipe, problem } = run.summary;
  const src = thumb(name, run.sheet);
  if (problem) return html`<tr class="damaged"><td></td><th scope="row">${name}</th><td colspan="5" class="mistake">damaged: ${problem}</td></tr>`;
  return html`<tr>
    <td class="tick"><input type="checkbox" aria-label=${`Mark ${name} to compare`} checked=${marked} onChange=${mark} /></td>
    <th scope="row"><${Link} to=${runPath(name)} class="run">
      ${src ? html`<img src=${src} alt="" loading="lazy" class="pixels thumb" />` : html`<span class="thumb none"></span>`}
      <span><b>${name}</b><small>${recipe}</small></span><//></th>
    <td data-title="status"><span class=${`status ${status}`}>${status}</span></td>
    <td data-title="step" class="figure">${count(step)} <small>of ${count(steps)}</small>
      <progress max=${steps || 1} value=${step} aria-label=${`Step ${step} of ${steps}`}></progress></td>
    <td data-title="measured" class="figure wide">${run.headline || "–"}</td>
    <td data-title="health">${run.verdicts.length ? html`<span class="verdict">${run.verdicts.join(", ")}</span>` : html`<small>no warnings</small>`}</td>
    <td data-title="created" class="figure"><time datetime=${created} title=${created}>${ago(created)}</time></td></tr>`;
}

function Tree({ runs }) {
  const under = (parent) => runs.filter((run) => run.branch.parent === parent)
    .sort((a, b) => a.summary.created.localeCompare(b.summary.created));
  const grow = (parent) => {
    const children = under(parent);
    return children.length ? html`<ul>${children.map((run) => html`<li>
      <${Link} to=${runPath(run.summary.name)}>${run.summary.name}<//>
      ${run.branch.at !== null && html` <small>from ${count(run.branch.at)}${run.branch.remedy && `, ${run.branch.remedy}`}</small>`}
      ${grow(run.summary.name)}</li>`)}</ul>` : null;
  };
  return html`<aside class="tree" aria-label="Lineage"><h2>Lineage</h2>${grow(null)}</aside>`;
}

export function Runs({ params }) {
  const [answer, mistake] = useAnswer("/api/runs", "*");
  useEffect(() => { document.title = "Runs · safelight"; }, []);
  if (!answer) return html`<${Note} mistake=${mistake}>Reading the runs …<//>`;
  const marks = params.getAll("mark");
  const words = (params.get("find") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const shown = answer.runs.filter((run) => matches(run, words));
  const mark = (name) => setParams({ mark: marks.includes(name) ? marks.filter((each) => each !== name) : [...marks, name].slice(-4) });
  if (!answer.runs.length) return html`<section class="empty"><h1>No runs yet</h1>
    <p>There is nothing in <code>${answer.folder}</code>. <${Link} to="/train">Start a training<//>, or type <code>safelight train digits</code>.</p></section>`;
  return html`<div class="head"><h1>Runs</h1>
      <input type="search" placeholder="Search" aria-label="Search the runs" value=${params.get("find") ?? ""} onInput=${(event) => setParams({ find: event.target.value })} />
      <span class="spring"></span>
      ${marks.length > 1
        ? html`<${Link} class="button" to=${`/side?${query({ run: marks })}`}>Compare ${marks.length}<//>`
        : html`<small>Mark two or more to compare them</small>`}</div>
    <div class="beside"><table class="runs"><thead><tr><td></td><th>run</th><th>status</th><th>step</th><th>measured</th><th>health</th><th>created</th></tr></thead>
      <tbody>${shown.map((run) => html`<${Row} key=${run.summary.name} run=${run} marked=${marks.includes(run.summary.name)} mark=${() => mark(run.summary.name)} />`)}</tbody></table>
      <${Tree} runs=${answer.runs.filter((run) => !run.summary.problem)} /></div>
    ${shown.length ? null : html`<p class="note">No run matches.</p>`}`;
}
