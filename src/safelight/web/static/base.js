// What every screen uses: html templates, the server's answers, events, addresses, numbers in words.
import { h, render } from "../vendor/preact.js";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
import htm from "../vendor/htm.js";

export const html = htm.bind(h);
export { render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState };

// --- The server ---

class Mistake extends Error {}

// A page that was saved holds the answers itself (report/saved_page.py); its addresses are behind a #.
export const saved = JSON.parse(document.getElementById("saved")?.textContent ?? "null");
const root = saved ? "#" : "";
export const picture = (url) => (saved ? saved.pictures[url.split("?")[0]] ?? "data:," : url);

function answered(url) {
  const [path, text] = url.split("?"), value = saved.answers[path];
  if (value === undefined) throw new Mistake("This page was saved without it; safelight web shows it.");
  return path.endsWith("/curves") ? between(value, new URLSearchParams(text)) : value;
}

// What of the bins of a whole run lies in a range, as the server would send it.
function between(curves, params) {
  const begin = Number(params.get("begin") ?? curves.begin), end = Number(params.get("end") ?? curves.end);
  const inside = (values) => values.filter((_, at) => begin <= curves.steps[at] && curves.steps[at] <= end);
  const columns = params.getAll("column").filter((name) => name in curves.columns).map((name) =>
    [name, Object.fromEntries(Object.entries(curves.columns[name]).map(([kind, values]) => [kind, inside(values)]))]);
  return { ...curves, begin, end, steps: inside(curves.steps), columns: Object.fromEntries(columns) };
}

async function answer(response) {
  const value = await response.json().catch(() => ({ mistake: `the server answered ${response.status}` }));
  if (value && value.mistake) throw new Mistake(value.mistake);
  if (!response.ok && !value.superseded) throw new Mistake(`the server answered ${response.status}`);
  return value;
}

export const get = async (url) => (saved ? answered(url) : answer(await fetch(url)));

export const post = async (url, body, signal) =>
  answer(await fetch(url, {
    method: "POST", body: JSON.stringify(body), signal,
    headers: { "content-type": "application/json", "x-safelight": "1" },
  }));

export const runUrl = (name) => `/api/run/${encodeURIComponent(name)}`;
export const query = (values) => {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(values))
    for (const each of [value].flat()) if (each !== undefined && each !== null && each !== "") params.append(key, each);
  return String(params);
};

// --- Events: one connection for all that is shown, none while the page is hidden ---

const listeners = new Map(); // subject: functions
let source = null, polling = null, opened = "";

function connect() {
  const subjects = [...listeners.keys()].sort();
  const wanted = document.hidden ? "" : query({ of: subjects });
  if (wanted === opened) return;
  opened = wanted;
  source?.close();
  clearInterval(polling);
  source = polling = null;
  if (!wanted) return;
  let heard = false;
  source = new EventSource(`/api/events?${wanted}`);
  source.onmessage = (event) => {
    heard = true;
    for (const subject of JSON.parse(event.data).changed) for (const tell of listeners.get(subject) ?? []) tell();
  };
  setTimeout(() => { if (!heard && opened === wanted) poll(wanted); }, 5000); // a proxy holds events back
}

function poll(wanted) {
  source?.close();
  let before = {};
  polling = setInterval(async () => {
    const now = await get(`/api/states?${wanted}`).catch(() => before);
    for (const [subject, state] of Object.entries(now))
      if (state !== before[subject]) for (const tell of listeners.get(subject) ?? []) tell();
    before = now;
  }, 2000);
}

let connecting = null;
const reconnect = () => { clearTimeout(connecting); connecting = setTimeout(connect, 50); };
document.addEventListener("visibilitychange", reconnect);

export function useChanges(subject, tell) {
  const latest = useRef(tell);
  latest.current = tell;
  useEffect(() => {
    if (!subject || saved) return undefined;
    const call = () => latest.current();
    if (!listeners.has(subject)) listeners.set(subject, new Set());
    listeners.get(subject).add(call);
    reconnect();
    return () => {
      listeners.get(subject).delete(call);
      if (!listeners.get(subject).size) listeners.delete(subject);
      reconnect();
    };
  }, [subject]);
}

// The answer of an address, asked again whenever its subject changes: [value, mistake, again].
export function useAnswer(url, subject) {
  const [state, set] = useState({ url: null, value: null, mistake: null });
  const number = useRef(0);
  const again = useCallback(async () => {
    if (!url) return;
    const mine = ++number.current;
    try {
      const value = await get(url);
      if (mine === number.current) set({ url, value, mistake: null });
    } catch (error) {
      if (mine === number.current) set((old) => ({ url, value: old.url === url ? old.value : null, mistake: error.message }));
    }
  }, [url]);
  useEffect(() => { again(); }, [again]);
  useChanges(subject, again);
  return [state.url === url ? state.value : null, state.url === url ? state.mistake : null, again];
}

// --- Addresses: they hold what is shown, so that they can be kept ---

const movers = new Set();
export function place() {
  const { pathname, search } = saved ? new URL(location.hash.slice(1) || "/", "http://saved") : location;
  return { path: pathname, params: new URLSearchParams(search) };
}

export function go(url, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", root + url);
  for (const tell of movers) tell();
}

export function usePlace() {
  const [now, set] = useState(place());
  useEffect(() => {
    const tell = () => set(place());
    movers.add(tell);
    addEventListener("popstate", tell);
    return () => { movers.delete(tell); removeEventListener("popstate", tell); };
  }, []);
  return now;
}

export function setParams(changes) {
  const { path, params } = place();
  for (const [key, value] of Object.entries(changes)) {
    params.delete(key);
    for (const each of [value].flat()) if (each !== null && each !== undefined && each !== "") params.append(key, each);
  }
  const text = String(params);
  go(path + (text ? `?${text}` : ""), { replace: true });
}

export function Link({ to, children, ...rest }) {
  const click = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(to);
    scrollTo(0, 0);
  };
  return html`<a href=${root + to} onClick=${click} ...${rest}>${children}</a>`;
}

export const runPath = (name, screen = "", params = {}) => {
  const text = query(params);
  return `/run/${encodeURIComponent(name)}${screen ? `/${screen}` : ""}${text ? `?${text}` : ""}`;
};

// --- Words ---

export const count = (value) => Math.round(value).toLocaleString("en");

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

// Digests are told by their beginning.
export const brief = (text) => String(text).replace(/\b([0-9a-f]{8})[0-9a-f]{16,}\b/g, "$1…");

export function bytes(value) { // as store/size.py
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < 4) { value /= 1000; at += 1; }
  return `${at && value < 10 ? value.toFixed(1) : count(value)} ${units[at]}`;
}

export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (!(seconds > 60)) return "just now";
  for (const [size, word] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    const many = Math.floor(seconds / size);
    if (many) return `${many} ${word}${many > 1 ? "s" : ""} ago`;
  }
  return "";
}

// A value as TOML has it on a command line.
export const worded = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);
export const command = (...words) => ["safelight", ...words.flat().filter((word) => word !== null && word !== "")].map((word) => quoted(String(word))).join(" ");

export function Command({ text }) {
  const [copied, set] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text).catch(() => {});
    set(true);
    setTimeout(() => set(false), 1500);
  };
  return html`<div class="command"><code>${text}</code>
    <button type="button" class="quiet" onClick=${copy} aria-label=${`Copy the command ${text}`}>${copied ? "copied" : "copy"}</button></div>`;
}

export const Note = ({ mistake, children }) =>
  mistake ? html`<p class="mistake" role="alert">${mistake}</p>` : children ? html`<p class="note">${children}</p>` : null;

export const typing = (event) => {
  const on = event.target;
  return event.altKey || event.ctrlKey || event.metaKey || on.isContentEditable
    || (on.tagName === "INPUT" && !["range", "checkbox", "radio"].includes(on.type)) || ["TEXTAREA", "SELECT"].includes(on.tagName);
};
