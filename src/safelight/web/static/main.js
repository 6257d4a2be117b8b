// The frame of the page: which screen an address is, the bar above it, the keys.
import { html, Link, render, useAnswer, usePlace } from "./base.js";
import { Help, useHelp } from "./keys.js";
import { Runs } from "./runs.js";
import { RunScreen } from "./run.js";
import { Side } from "./side.js";
import { Jobs } from "./jobs.js";
import { Train } from "./train.js";

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
  const [help, setHelp] = useHelp();
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
