// The keys, and the list of them under ?.
import { html, typing, useEffect, useState } from "./base.js";

const KEYS = [
  ["← →", "the sheet before, the next sheet"],
  ["shift ← →", "the checkpoint before, the next one"],
  ["space", "play through the sheets, or stop"],
  ["home end", "the first and the newest sheet"],
  ["f", "hold: the other run (side by side)"],
  ["/", "search the runs"],
  ["?", "these keys"],
];

export function useHelp() {
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
  return [help, setHelp];
}

export function Help({ close }) {
  useEffect(() => document.querySelector("dialog")?.showModal(), []);
  return html`<dialog onClose=${close} aria-label="Keys"><h2>Keys</h2>
    <dl class="keys">${KEYS.map(([key, words]) => html`<dt><kbd>${key}</kbd></dt><dd>${words}</dd>`)}</dl>
    <form method="dialog"><button>Close</button></form></dialog>`;
}
