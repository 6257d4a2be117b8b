// A run in one file: the page's modules over answers that were saved, the report's tables, and Draw with a model.
import { html, Link, render, runPath, saved, useLayoutEffect, usePlace } from "./base.js";
import { Help, useHelp } from "./keys.js";
import { Draw } from "./draw.js";
import { RunScreen } from "./run.js";

const report = document.getElementById("report");

function Saved() {
  const { path, params } = usePlace();
  const [help, setHelp] = useHelp();
  const [, , name = saved.run, screen = ""] = path.split("/").map(decodeURIComponent);
  useLayoutEffect(() => { report.hidden = screen !== "report"; }, [screen]);
  const screens = (shared) => ({ report: html`<span hidden></span>`, draw: html`<${Draw} run=${shared.run} />` });
  return html`<header class="bar"><${Link} to=${runPath(saved.run)} class="mark"><i aria-hidden="true"></i>safelight<//>
      <span class="spring"></span><small>saved ${saved.written}</small><button class="quiet" onClick=${() => setHelp(true)} aria-label="Show the keys">?</button></header>
    <main><${RunScreen} key=${name} name=${name} screen=${screen} params=${params} screens=${screens} />
      ${screen === "" && saved.left_out.map((words) => html`<p class="note">${words}</p>`)}</main>
    ${help && html`<${Help} close=${() => setHelp(false)} />`}`;
}

render(html`<${Saved} />`, document.getElementById("page"));
