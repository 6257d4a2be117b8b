// The sheet at a step, captioned with its true one; and any other step, computed after its price was told.
import { brief, Command, command, count, duration, get, html, Note, picture, post, query, runUrl, saved, useEffect, useMemo, useRef, useState } from "./base.js";

const computed = new Map(); // "run step": the answer, for as long as the page is open

export const sheetAt = (sheets, step) => sheets.filter((sheet) => sheet.step <= step).at(-1) ?? sheets[0];
export const tilesUrl = (name, sheet, columns) => picture(`${runUrl(name)}/tiles/${sheet.step}.png?${query({ columns, v: sheet.v })}`);

// As many images in a row as suit the place: a divisor of what the sheet has, where there are classes.
export function fitting(grid, width) {
  if (!grid) return undefined;
  const most = Math.max(3, Math.floor(width / 44));
  if (grid.columns <= most) return grid.columns;
  for (let columns = most; columns > 2; columns -= 1) if (grid.columns % columns === 0) return columns;
  return most;
}

export function useWidth() {
  const box = useRef(null), [width, set] = useState(innerWidth);
  useEffect(() => {
    if (!box.current) return undefined;
    const watch = new ResizeObserver(([entry]) => set(entry.contentRect.width));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return [box, width];
}

export function Verdict({ of }) {
  const words = of.verdict === "exact" ? `exact: ${count(of.checked)} recomputed steps have their recorded fingerprints` : of.verdict;
  return html`<span class=${of.sure ? "sure" : "verdict"}>${words}${of.why?.length ? ` (${brief(of.why.join("; "))})` : ""}</span>`;
}

export function Sheet({ run, step }) {
  const name = run.facts.name;
  const [box, width] = useWidth();
  const [price, setPrice] = useState(null), [busy, setBusy] = useState(false), [mistake, setMistake] = useState(null), [, again] = useState(0);
  const sheet = sheetAt(run.sheets, step);
  const columns = fitting(run.grid, width);
  const made = computed.get(`${name} ${step}`);
  const exactly = sheet?.step === step;
  useEffect(() => {
    setPrice(null);
    setMistake(null);
    if (exactly || made || saved) return undefined;
    const timer = setTimeout(() => get(`${runUrl(name)}/price?step=${step}`).then(setPrice, (error) => setMistake(error.message)), 150);
    return () => clearTimeout(timer);
  }, [name, step, exactly, !!made]);
  useMemo(() => { // neighbours, so that arrows and play do not wait
    const at = run.sheets.indexOf(sheet);
    for (const other of [run.sheets[at + 1], run.sheets[at - 1]]) if (other) new Image().src = tilesUrl(name, other, columns);
  }, [name, sheet, columns]);
  const compute = async () => {
    setBusy(true);
    setMistake(null);
    try {
      computed.set(`${name} ${step}`, await post("/api/model", { op: "watched", place: "sheet", run: name, step, columns }));
    } catch (error) {
      setMistake(error.message);
    }
    setBusy(false);
    again((number) => number + 1);
  };
  const shown = made ?? null;
  const src = shown ? `data:image/png;base64,${shown.picture}` : sheet && tilesUrl(name, sheet, columns);
  const at = shown ? step : sheet?.step;
  return html`<figure class="sheet" ref=${box}>
    ${src ? html`<img class="pixels" src=${src} alt=${`${run.grid?.count ?? ""} fixed samples of ${name} at step ${at}`} />` : html`<div class="empty">No sheet yet.</div>`}
    <figcaption aria-live="polite"><b>step ${count(at ?? 0)}</b>
      ${shown ? html` · computed · <${Verdict} of=${shown} />` : exactly ? html` · the same noises in every sheet` : sheet && sheet.step > step ? html` · the first sheet: there is none up to step ${count(step)}` : html` · the last sheet up to step ${count(step)}`}
      ${!exactly && !shown && !saved && html`<div class="compute">
        <button onClick=${compute} disabled=${busy || !price}>${busy ? "Computing …" : `Compute step ${count(step)}`}</button>
        ${price && html`<small>${price.steps ? `at most ${count(price.steps)} steps from checkpoint ${count(price.start)}, ${duration(price.seconds)} when they were trained` : "it has a checkpoint: nothing to recompute"}</small>`}</div>`}
      <${Note} mistake=${mistake} />
      ${shown && html`<${Command} text=${command("replay", name, "--step", step)} />`}
    </figcaption></figure>`;
}

export function Figures({ run, step }) {
  const names = [...new Set(run.panels.map((panel) => panel.name))];
  if (!names.length) return null;
  return html`<details class="figures"><summary>Figures of the family</summary>${names.map((title) => {
    const panel = run.panels.filter((each) => each.name === title && each.step <= step).at(-1) ?? run.panels.find((each) => each.name === title);
    return html`<figure><img loading="lazy" src=${picture(`${runUrl(run.facts.name)}/panels/${encodeURIComponent(panel.file)}`)} alt=${`${title} at step ${panel.step}`} />
      <figcaption>${title}, step ${count(panel.step)}</figcaption></figure>`;
  })}</details>`;
}
