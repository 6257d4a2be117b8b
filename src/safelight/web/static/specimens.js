// Specimens: samples with names. Click to choose; keep them, walk from one to the next, film them through training.
import { Command, command, count, html, Note, runUrl, useAnswer, useEffect, useState } from "./base.js";
import { JobLine, useAct } from "./jobs.js";
import { usePictures } from "./model.js";
import { useWidth, Verdict } from "./sheet.js";
import { Timeline, useMarks } from "./timeline.js";

const COUNT = 24;

export function Specimens({ run, step: shown }) {
  const name = run.facts.name, marks = useMarks(run), last = Math.max(...run.facts.checkpoints, 0);
  const [step, setStep] = useState(run.facts.checkpoints.includes(shown) ? shown : last);
  const [first, setFirst] = useState(0), [chosen, choose] = useState([]);
  const [sheet, mistake, busy, ask] = usePictures("specimens");
  const [kept, , again] = useAnswer(`${runUrl(name)}/kept`, name);
  const [box, width] = useWidth();
  const [start, job, refused] = useAct(() => again());
  const columns = width < 500 ? 4 : 6;
  const draw = (from = first) => { setFirst(from); ask({ op: "specimens", run: name, step, first: from, count: COUNT, columns }); };
  useEffect(() => { if (sheet) draw(first); }, [step, columns]);
  const toggle = (id) => choose(chosen.includes(id) ? chosen.filter((each) => each !== id) : [...chosen, id]);
  const rows = sheet && Math.ceil(sheet.ids.length / sheet.grid.columns);
  const end = Math.max(run.facts.step, 1);
  if (!last) return html`<p class="note">There is no checkpoint yet.</p>`;
  const dropped = (event, id) => { event.preventDefault(); const from = event.dataTransfer.getData("text/plain"); if (from && from !== id) choose([from, id]); };
  return html`<${Timeline} first=${run.first} last=${Math.max(last, run.facts.step)} step=${step} setStep=${setStep} marks=${marks} playing=${false} play=${null} label="Step of the weights" />
    <div class="centre"><div class="left" ref=${box}>
      ${sheet?.ids ? html`<figure class="sheet"><div class="over"><img class=${`pixels ${busy ? "stale" : ""}`} src=${`data:image/png;base64,${sheet.picture}`} alt=${`Specimens ${sheet.ids[0]} to ${sheet.ids.at(-1)}`} />
          <div class="hits" style=${`grid-template-columns:repeat(${sheet.grid.columns},1fr);grid-template-rows:repeat(${rows},1fr)`}>${sheet.ids.map((id) => html`<button key=${id} draggable="true" aria-pressed=${chosen.includes(id)} aria-label=${`Specimen ${id}`} title=${id}
            onClick=${() => toggle(id)} onDragStart=${(event) => event.dataTransfer.setData("text/plain", id)} onDragOver=${(event) => event.preventDefault()} onDrop=${(event) => dropped(event, id)}><span>${chosen.includes(id) ? chosen.indexOf(id) + 1 : ""}</span></button>`)}</div></div>
        <figcaption aria-live="polite"><b>step ${count(sheet.step)}</b> · ${sheet.ids[0]} to ${sheet.ids.at(-1)} · <${Verdict} of=${sheet} />
          <div class="row"><button class="quiet" disabled=${!first} onClick=${() => draw(Math.max(0, first - COUNT))}>before</button><button class="quiet" onClick=${() => draw(first + COUNT)}>more</button></div></figcaption></figure>`
        : html`<div class="empty open"><p>Every sample has a name, its step and number, which gives the same picture on any machine.</p><button disabled=${busy} onClick=${() => draw()}>${busy ? "Drawing …" : `Draw ${COUNT} of step ${count(step)}`}</button></div>`}
      <${Note} mistake=${mistake} /><${Command} text=${command("specimens", name, "--step", step, "-n", COUNT, first ? ["--first", first] : [], "--out", "sheet.png")} /></div>
    <div class="right"><h2>Chosen</h2>
      ${chosen.length ? html`<p class="ids">${chosen.map((id) => html`<button class="quiet" onClick=${() => toggle(id)} aria-label=${`Remove ${id}`}>${id} ×</button>`)}</p>` : html`<p class="note">Click samples to choose them, or drag one onto another for a walk.</p>`}
      ${!run.read_only && chosen.length > 0 && html`<div class="stack">
        <button onClick=${() => start("keep", name, { ids: chosen })}>Keep</button><${Command} text=${command("specimens", name, chosen.flatMap((id) => ["--keep", id]))} />
        <button onClick=${() => start("film", name, { ids: chosen, to: end, every: Math.max(1, Math.round(end / 60)) })}>Film through training</button><${Command} text=${command("film", name, chosen, "--to", end, "--every", Math.max(1, Math.round(end / 60)), "--out", "film.mp4")} />
        ${chosen.length > 1 && html`<button onClick=${() => start("walk", name, { ids: chosen, frames: 60, step })}>Walk from one to the next</button><${Command} text=${command("walk", name, chosen, "--frames", 60, "--step", step, "--out", "walk.mp4")} />`}</div>`}
      <${Note} mistake=${refused} /><${JobLine} job=${job} quiet />
      ${job?.files.map((file) => html`<${Film} src=${`/api/jobs/${job.id}/${file}`} />`)}
      <h2>Kept</h2>
      ${kept?.length ? html`<div class="kept">${kept.map((each) => html`<figure><button aria-pressed=${chosen.includes(each.id)} onClick=${() => toggle(each.id)} aria-label=${`Specimen ${each.id}`}>
        <img class="pixels" src=${`${runUrl(name)}/specimens/${each.id}.png?v=${each.v}`} alt="" /></button><figcaption>${each.id}</figcaption></figure>`)}</div>` : html`<p class="note">None yet.</p>`}</div></div>`;
}

// A film under a slider: frame by frame, forwards and back.
function Film({ src }) {
  const [video, set] = useState(null), [at, setAt] = useState(0), [length, setLength] = useState(0);
  return html`<figure class="film"><video ref=${set} src=${src} muted playsinline controls loop onTimeUpdate=${(event) => setAt(event.target.currentTime)} onLoadedMetadata=${(event) => setLength(event.target.duration)}></video>
    <input type="range" min="0" max=${length} step="0.01" value=${at} aria-label="Place in the film" onInput=${(event) => { video.pause(); video.currentTime = Number(event.target.value); }} />
    <figcaption><a href=${src} download>Save the film</a></figcaption></figure>`;
}
