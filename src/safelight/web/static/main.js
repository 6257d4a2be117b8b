// The frame of the page: which screen an address is, the bar above it, the keys.
import { html, Link, render, useAnswer, useEffect, useState, usePlace, typing } from "./base.js";
import { Runs } from "./runs.js";
import { RunScreen } from "./run.js";
import { Side } from "./side.js";
import { Jobs } from "./jobs.js";
import { Train } from "./train.js";

const KEYS = [
  ["← →", "the sheet before, the next sheet"],
  ["shift ← →", "the checkpoint before, the next one"],
  ["space", "play through the sheets, or stop"],
  ["home end", "the first and the newest sheet"],
  ["f", "hold: the other run (side by side)"],
  ["/", "search the runs"],
  ["?", "these keys"],
];

function Help({ close }) {
  useEffect(() => document.querySelector("dialog")?.showModal(), []);
  return html`<dialog onClose=${close} aria-label="Keys"><h2>Keys</h2>
    <dl class="keys">${KEYS.map(([key, words]) => html`<dt><kbd>${key}</kbd></dt><dd>${words}</dd>`)}</dl>
    <form method="dialog"><button>Close</button></form></dialog>`;
}

function Bar({ help }) {
  const [jobs] = useAnswer("/api/jobs", "!");
  const at = jobs?.filter((job) => job.status === "running" || job.status === "waiting") ?? [];
  return html`<header class="bar">
    <${Link} to="/" class="mark"><i aria-hidden="true"></i>safelight<//>
    <nav aria-label="Pages"><${Link} to="/">Runs<//><${Link} to="/train">Train<//>
    <${Link} to="/jobs">Jobs${at.length ? html` <b class="badge">${at.length}</b>` : ""}<//></nav>
    <button class="quiet" onClick=${help} aria-label="Show the keys">?</button></header>`;
}

function App() {
  const { path, params } = usePlace();
  const [help, setHelp] = useState(false);
  useEffect(() => {
    const press = (event) => {
      if (typing(event)) return;
      if (event.key === "?") setHelp(true);
      if (event.key === "/") { event.preventDefault(); document.querySelector("input[type=search]")?.focus(); }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  const [, section, name, screen] = path.split("/").map(decodeURIComponent);
  let body;
  if (section === "run" && name) body = html`<${RunScreen} key=${name} name=${name} screen=${screen ?? ""} params=${params} />`;
  else if (section === "side") body = html`<${Side} names=${params.getAll("run")} params=${params} />`;
  else if (section === "jobs") body = html`<${Jobs} />`;
  else if (section === "train") body = html`<${Train} params=${params} />`;
  else body = html`<${Runs} params=${params} />`;
  return html`<${Bar} help=${() => setHelp(true)} /><main>${body}</main>${help && html`<${Help} close=${() => setHelp(false)} />`}`;
}

render(html`<${App} />`, document.getElementById("page"));
