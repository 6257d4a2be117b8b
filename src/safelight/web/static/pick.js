// Pick: a person as the judge. Each sheet is bred from what was picked of those before; `search --objective pick`.
import { Command, command, html, Note, query, runUrl, useAnswer, useEffect, useState } from "./base.js";
import { JobLine, useAct } from "./jobs.js";
import { useWidth } from "./sheet.js";

export function Pick({ run }) {
  const name = run.facts.name;
  const [found, mistake, again] = useAnswer(`${runUrl(name)}/picks`, name);
  const [search, setSearch] = useState("picking"), [picks, setPicks] = useState([]), [prompt, setPrompt] = useState("");
  const [start, job, refused] = useAct(() => { setPicks([]); again(); });
  const [box] = useWidth();
  const current = found?.find((each) => each.name === search);
  const busy = job && ["waiting", "running"].includes(job.status);
  const send = (picked) => start("search", name, { name: search, ...(prompt ? { prompt } : {}), ...(picked ? { picked } : {}) });
  const marks = current && (picks.length ? picks.map((row) => `${current.sheet}.${row + 1}`).join(",") : `${current.sheet}.none`);
  const toggle = (row) => setPicks(picks.includes(row) ? picks.filter((each) => each !== row) : [...picks, row]);
  useEffect(() => { setPicks([]); }, [current?.sheet]);
  if (!run.facts.checkpoints.length) return html`<p class="note">There is no checkpoint yet.</p>`;
  const grid = current?.grid, rows = grid && Math.ceil(grid.count / grid.columns);
  return html`<div class="centre"><div class="left" ref=${box}>
    ${current ? html`<figure class="sheet"><div class="over"><img class=${`pixels ${busy ? "stale" : ""}`} src=${`${runUrl(name)}/picks/${encodeURIComponent(search)}.png?${query({ v: current.v })}`} alt=${`Sheet ${current.sheet} of ${grid.count} candidates`} />
        <div class="hits" style=${`grid-template-columns:repeat(${grid.columns},1fr);grid-template-rows:repeat(${rows},1fr)`}>${Array.from({ length: grid.count }, (_, row) => html`<button key=${row} aria-pressed=${picks.includes(row)} aria-label=${`Candidate ${row + 1}`} disabled=${busy} onClick=${() => toggle(row)}><span>${picks.includes(row) ? "✓" : ""}</span></button>`)}</div></div>
      <figcaption><b>sheet ${current.sheet}</b> · ${picks.length ? `${picks.length} picked` : "nothing picked"}</figcaption></figure>`
      : html`<div class="empty open"><p>Pick what you like of a sheet of candidates; the next sheet is bred from it. The run is not changed.</p></div>`}
    <${Note} mistake=${mistake} /></div>
    <div class="right"><h2>Pick</h2>
      <div class="stack"><label>search <input value=${search} list="searches" pattern="[a-z][a-z0-9\\-]*" onInput=${(event) => setSearch(event.target.value)} /></label>
        <datalist id="searches">${found?.map((each) => html`<option value=${each.name}></option>`)}</datalist>
        ${!current && "text" in (run.facts.data.conditions ?? {}) && html`<label>prompt <input value=${prompt} onInput=${(event) => setPrompt(event.target.value)} /></label>`}
        ${!run.read_only && (current
          ? html`<button disabled=${busy} onClick=${() => send(marks)}>${picks.length ? "Breed the next sheet" : "None of these"}</button>
              <button class="quiet" disabled=${!picks.length} onClick=${() => setPicks(picks.slice(0, -1))}>Undo</button><${Command} text=${command("search", name, "--objective", "pick", "--name", search, "--picked", marks)} />`
          : html`<button disabled=${busy || !search} onClick=${() => send(null)}>Draw the first sheet</button><${Command} text=${command("search", name, "--objective", "pick", "--name", search)} />`)}</div>
      <${Note} mistake=${refused} /><${JobLine} job=${job} quiet />
      ${current?.kept.length > 0 && html`<h2>Picked so far</h2><div class="kept">${current.kept.map((each) => html`<figure><img class="pixels" src=${`${runUrl(name)}/specimens/${each.id}.png?v=${each.v}`} alt=${`Specimen ${each.id}`} /><figcaption>${each.id}</figcaption></figure>`)}</div>`}</div></div>`;
}
