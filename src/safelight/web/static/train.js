// Start a training: a recipe, what to change of it, what it would take, then train.
import { Command, command, go, html, Note, post, runPath, setParams, useAnswer, useEffect, useMemo, useState, worded, bytes, count, duration } from "./base.js";
import { JobLine, useAct } from "./jobs.js";

// Sections, keys, values and meanings of a recipe that was written with every key.
function sectioned(text) {
  const sections = [];
  let words = [];
  for (const line of text.split("\n")) {
    const header = line.match(/^\[([\w.]+)\]$/), key = line.match(/^(# )?([a-z_]\w*) =\s?(.*)$/);
    if (header) { sections.push({ name: header[1], keys: [] }); words = []; }
    else if (key && sections.length && sections.at(-1).name !== "about") { sections.at(-1).keys.push({ name: `${sections.at(-1).name}.${key[2]}`, value: key[3], words: words.join(" ") }); words = []; }
    else if (line.startsWith("# ")) words.push(line.slice(2));
  }
  return sections;
}

function Plan({ plan }) {
  if (!plan) return null;
  const parameters = Object.values(plan.parameters ?? {}).reduce((a, b) => a + b, 0);
  return html`<dl class="plan">${parameters > 0 && html`<dt>parameters</dt><dd>${count(parameters)}</dd>`}
    ${plan.hours !== undefined && html`<dt>time</dt><dd>${duration(plan.hours * 3600)} for ${count(plan.steps)} steps</dd>`}
    <dt>device</dt><dd>${plan.device}</dd>${plan.disk?.bytes && html`<dt>disk</dt><dd>${bytes(plan.disk.bytes)}</dd>`}</dl>`;
}

// What `data inspect` says of a folder on the server's machine, with its sheet. named: the folder that was looked at.
function Folder({ named, setNamed, changes }) {
  const [path, setPath] = useState(named);
  const [inspect, job, mistake] = useAct();
  const keys = Object.fromEntries(Object.entries(changes).filter(([key]) => /^data\.\w+$/.test(key) && key !== "data.path"));
  const look = (event) => {
    event.preventDefault();
    setNamed(path.trim());
    if (path.trim()) inspect("inspect", "", { folder: path.trim(), changes: keys });
  };
  const words = job?.status === "done" ? job.result.split("\n").filter((line) => !line.startsWith("sheet:")).join("\n").trim() : "";
  return html`<form class="folder" onSubmit=${look}><div class="row"><label>folder of pictures <input value=${path} placeholder="the recipe's data" onInput=${(event) => setPath(event.target.value)} /></label>
      <button>Inspect</button></div>
    <${Note} mistake=${mistake} />
    ${named && html`<${JobLine} job=${job} quiet />`}
    ${named && words && html`<pre class="inspected" tabindex="0" aria-label="What the folder holds">${words}</pre>
      ${job.files.map((file) => html`<figure class="sheet"><img src=${`/api/jobs/${job.id}/${file}`} alt=${`Pictures of ${named}`} /></figure>`)}`}</form>`;
}

export function Train({ params }) {
  const [recipes, mistake] = useAnswer("/api/recipes");
  const [answer] = useAnswer("/api/runs", "*");
  const chosen = params.get("recipe");
  const [full, setFull] = useState(null), [wrong, setWrong] = useState(null), [changes, setChanges] = useState({}), [name, setName] = useState(""), [named, setNamed] = useState(""), [find, setFind] = useState("");
  const [plan, planned, refused] = useAct();
  const [train, trained, failed] = useAct((job) => { if (job.result?.name) go(runPath(job.result.name)); });
  useEffect(() => { document.title = "Train · safelight"; }, []);
  useEffect(() => {
    setFull(null);
    setChanges({});
    if (chosen) post("/api/model", { op: "recipe", place: "recipe", recipe: chosen }).then((got) => { if (!got.superseded) setFull(sectioned(got.text)); setWrong(null); }, (error) => setWrong(error.message));
  }, [chosen]);
  const all = named ? { ...changes, "data.path": named.includes("/") ? named : JSON.stringify(named) } : changes;
  useEffect(() => { if (named && chosen && full) plan("plan", "", { recipe: chosen, changes: all }); }, [named, full]);
  const words = Object.entries(all).map(([key, value]) => `${key}=${worded(value)}`);
  const shown = useMemo(() => full?.map((section) => ({ ...section, keys: section.keys.filter((key) => !find || `${key.name} ${key.words}`.toLowerCase().includes(find.toLowerCase())) })).filter((section) => section.keys.length && section.name !== "about"), [full, find]);
  const set = (key, text) => { const next = { ...changes }; if (text === key.value || text === "") delete next[key.name]; else next[key.name] = text; setChanges(next); };
  const began = trained?.status === "running" && answer?.runs[0]?.summary.status === "running" ? answer.runs[0].summary.name : null;
  if (answer?.read_only) return html`<${Note}>Read only: no training can be started here.<//>`;
  return html`<div class="head"><h1>Train</h1></div><${Note} mistake=${mistake ?? wrong} />
    <div class="beside train"><ul class="recipes" aria-label="Recipes">${recipes?.map((recipe) => html`<li><button aria-pressed=${recipe.name === chosen} onClick=${() => setParams({ recipe: recipe.name })}><b>${recipe.name}</b><span>${recipe.title}</span><small>${recipe.size} · ${recipe.time}</small></button></li>`)}</ul>
    <div><${Folder} named=${named} setNamed=${setNamed} changes=${changes} />
    ${!chosen && html`<p class="note">Choose a recipe${named ? "; its plan with this folder is shown before anything is trained" : ""}.</p>`}
    ${chosen && html`<form onSubmit=${(event) => { event.preventDefault(); train("train", "", { recipe: chosen, changes: all, name }); }}>
      <div class="row"><label>name <input value=${name} placeholder=${`${chosen}-1, -2, …`} onInput=${(event) => setName(event.target.value)} /></label>
        <button type="button" class="quiet" onClick=${() => plan("plan", "", { recipe: chosen, changes: all })}>Plan</button><button>Train</button></div>
      <${Command} text=${command("train", chosen, words, name ? ["--name", name] : [])} />
      <${Note} mistake=${refused ?? failed} />
      ${planned && html`<${JobLine} job=${planned} quiet /><${Plan} plan=${planned.result} />`}
      ${trained && html`<${JobLine} job=${trained} />`}
      ${began && html`<p><a href=${runPath(began)}>Watch ${began}</a></p>`}
      ${full ? html`<input type="search" placeholder="Search the keys" aria-label="Search the keys" value=${find} onInput=${(event) => setFind(event.target.value)} />
        ${shown.map((section) => html`<fieldset><legend>${section.name}</legend>${section.keys.map((key) => html`<label class=${`key ${key.name in changes ? "changed" : ""}`}><span>${key.name.split(".").at(-1)}</span>
          <input value=${changes[key.name] ?? key.value} onChange=${(event) => set(key, event.target.value)} /><small>${key.words}</small></label>`)}</fieldset>`)}` : !wrong && html`<p class="note">Reading the recipe …</p>`}</form>`}</div></div>`;
}
