// Jobs: commands in a queue, their output, and how to type them.
import { Command, duration, go, html, Note, post, runPath, useAnswer, useEffect, useState } from "./base.js";

// Queue an act: [start, job, mistake]. The job is followed until it ends; `done` gets it then.
export function useAct(done = () => {}) {
  const [id, setId] = useState(null);
  const [mistake, setMistake] = useState(null);
  const [job] = useAnswer(id && `/api/jobs/${id}`, id && "!");
  const start = async (act, run, options = {}) => {
    setMistake(null);
    try {
      setId((await post("/api/jobs", { act, run, options })).id);
    } catch (error) {
      setMistake(error.message);
    }
  };
  const ended = job && !["waiting", "running"].includes(job.status);
  useEffect(() => { if (ended) done(job); }, [ended, id]);
  return [start, job, mistake];
}

export function JobLine({ job, quiet }) {
  if (!job) return null;
  const cancel = () => post(`/api/jobs/${job.id}/cancel`, {}).catch(() => {});
  const seconds = job.begun ? (job.ended ?? Date.now() / 1000) - job.begun : 0;
  const going = job.status === "running" || job.status === "waiting";
  const last = job.output.trim().split("\n").at(-1);
  return html`<section class=${`job ${job.status}`} aria-live="polite">
    <p><span class=${`status ${job.status}`}>${job.status}</span> ${seconds > 0 && html`<small>${duration(seconds)}</small>`}
      <span class="spring"></span>${going && html`<button class="quiet" onClick=${cancel}>${job.status === "running" ? "Stop" : "Cancel"}</button>`}</p>
    <${Command} text=${job.command} />
    ${job.status === "failed" && html`<p class="mistake" role="alert">${last || "it ended without a message"}</p>`}
    ${!quiet && job.output.trim() && html`<details open=${going}><summary>Output</summary><pre tabindex="0">${job.output}</pre></details>`}
    ${!quiet && job.result && html`<details><summary>Result</summary><pre tabindex="0">${typeof job.result === "string" ? job.result : JSON.stringify(job.result, null, 2)}</pre></details>`}
    ${!quiet && job.run && html`<p><a href=${runPath(job.run)} onClick=${(event) => { event.preventDefault(); go(runPath(job.run)); }}>${job.run}</a></p>`}
  </section>`;
}

// What is shown as one file: made by its command, then handed to the browser.
export function Save({ run, act = "save", options }) {
  const [start, job, mistake] = useAct((ended) => {
    if (!ended.files.length) return;
    const link = Object.assign(document.createElement("a"), { href: `/api/jobs/${ended.id}/${ended.files[0]}`, download: "" });
    link.click();
  });
  const going = job && ["waiting", "running"].includes(job.status);
  return html`<button class="save" disabled=${going} onClick=${() => start(act, run, options)} title="One file that needs no server">${going ? "Saving …" : "Save page"}</button>
    <${Note} mistake=${mistake} />${job?.status === "failed" && html`<${JobLine} job=${job} quiet />`}`;
}

export function Jobs() {
  const [jobs, mistake] = useAnswer("/api/jobs", "!");
  useEffect(() => { document.title = "Jobs · safelight"; }, []);
  return html`<div class="head"><h1>Jobs</h1></div>
    <p class="note">Jobs run one at a time. A running job goes on when this page or its server is closed; waiting ones are dropped.</p>
    <${Note} mistake=${mistake} />
    ${jobs && !jobs.length && html`<p>Nothing yet. What you start on a run appears here, with its command.</p>`}
    ${jobs?.map((job) => html`<${JobLine} key=${job.id} job=${job} />`)}`;
}
