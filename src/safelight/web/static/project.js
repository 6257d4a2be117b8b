// Projection: a picture of the reader's, and the latent whose picture is nearest.
import { Command, command, html, Link, Note, number, runPath, useState, worded } from "./base.js";
import { JobLine, useAct } from "./jobs.js";

const MOST = 5; // MB, as uploads.py

const read = (file) => new Promise((done, fail) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => fail(new Error(`${file.name} cannot be read`));
  reader.readAsDataURL(file);
});

export function Project({ run, step, obstacle, conditions, how }) {
  const name = run.facts.name, [steps, setSteps] = useState(200), [over, setOver] = useState(false), [wrong, setWrong] = useState(null);
  const [start, job, refused] = useAct();
  if (obstacle) return html`<h2>Projection</h2><p class="note">No picture can be projected: ${obstacle}.</p>`;
  if (run.read_only) return null;
  const stated = Object.fromEntries(Object.entries(conditions).filter(([, value]) => !String(value).startsWith("data:")));
  const send = async (file) => {
    setOver(false);
    setWrong(null);
    if (!file) return;
    if (file.size > MOST * 2 ** 20) { setWrong(`${file.name} is larger than ${MOST} MB; make it smaller`); return; }
    try {
      await start("project", name, { picture: await read(file), step, steps, conditions: stated, changes: Object.fromEntries(Object.entries(how).map(([key, value]) => [`sample.${key}`, value])) });
    } catch (error) {
      setWrong(error.message);
    }
  };
  const made = job?.status === "done" && job.files[0], error = made && job.result["pixel mse"];
  return html`<h2>Projection</h2>
    <div class=${`drop ${over ? "over-it" : ""}`} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${(event) => { event.preventDefault(); send(event.dataTransfer.files[0]); }}>
      <p>Drop a picture here; the nearest image that the model can make is kept as a specimen.</p>
      <div class="row"><label class="file">or choose a file <input type="file" accept="image/png,image/jpeg,image/webp" onChange=${(event) => { send(event.target.files[0]); event.target.value = ""; }} /></label>
        <label>steps <input type="number" min="1" value=${steps} onChange=${(event) => setSteps(Math.max(1, Math.round(Number(event.target.value)) || 1))} /></label></div></div>
    <${Note} mistake=${wrong ?? refused} />
    ${job ? html`<${JobLine} job=${job} quiet />` : html`<${Command} text=${command("project", name, "picture", Object.entries(how).map(([key, value]) => `sample.${key}=${worded(value)}`), "--steps", steps, Object.entries(stated).flatMap(([key, value]) => ["--condition", `${key}=${value}`]), "--step", step, "--out", "project.png")} />`}
    ${made && html`<figure class="sheet projection"><img class="pixels" src=${`/api/jobs/${job.id}/${made}`} alt="The picture, what the search began from, and the projection" />
      <figcaption><${Link} to=${runPath(name, "specimens", { step })}>${job.result.specimen}<//> · squared error of pixels ${number(error.first)} at first, ${number(error.last)} at last</figcaption></figure>`}`;
}
