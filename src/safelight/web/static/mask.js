// A mask, painted or dropped: a picture of one grey level a class, as masks of the data are.
import { html, useEffect, useRef, useState } from "./base.js";

const INKS = ["#171413", "#e0a15a", "#7aa2c8", "#8fb77c", "#c77fb0", "#d8d0c4", "#c23b22", "#4f7f86", "#9a86c9", "#b98b52"];

export function Mask({ name, classes, names, shape, set }) {
  const [, height, width] = shape;
  const ids = useRef(new Uint8Array(height * width)), canvas = useRef(null), [ink, setInk] = useState(Math.min(1, classes - 1)), [brush, setBrush] = useState(Math.max(1, Math.round(width / 12)));
  const show = () => {
    const context = canvas.current.getContext("2d"), image = context.createImageData(width, height);
    ids.current.forEach((id, at) => {
      const colour = parseInt(INKS[id % INKS.length].slice(1), 16);
      image.data.set([colour >> 16, (colour >> 8) & 255, colour & 255, 255], at * 4);
    });
    context.putImageData(image, 0, 0);
  };
  useEffect(show, []);
  const paint = (event) => {
    if (!event.buttons) return;
    const box = canvas.current.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width, y = ((event.clientY - box.top) / box.height) * height;
    for (let row = 0; row < height; row += 1) for (let column = 0; column < width; column += 1)
      if ((row + 0.5 - y) ** 2 + (column + 0.5 - x) ** 2 <= brush ** 2) ids.current[row * width + column] = ink;
    show();
  };
  const send = () => {
    const plain = document.createElement("canvas");
    plain.width = width;
    plain.height = height;
    const context = plain.getContext("2d"), image = context.createImageData(width, height);
    ids.current.forEach((id, at) => image.data.set([id, id, id, 255], at * 4));
    context.putImageData(image, 0, 0);
    set(plain.toDataURL("image/png"));
  };
  const drop = async (file) => {
    if (!file) return;
    const picture = await createImageBitmap(file), plain = document.createElement("canvas");
    plain.width = width;
    plain.height = height;
    const context = plain.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, 0, 0, width, height);
    const data = context.getImageData(0, 0, width, height).data;
    const white = classes === 2 ? 255 : 0;
    for (let at = 0; at < ids.current.length; at += 1) ids.current[at] = white && data[at * 4] === 255 ? 1 : Math.min(classes - 1, data[at * 4]);
    show();
    send();
  };
  return html`<div class="mask" onDragOver=${(event) => event.preventDefault()} onDrop=${(event) => { event.preventDefault(); drop(event.dataTransfer.files[0]); }}>
    <canvas ref=${canvas} width=${width} height=${height} class="pixels" role="img" aria-label=${`${name}, to paint on`} onPointerDown=${(event) => { canvas.current.setPointerCapture(event.pointerId); paint(event); }} onPointerMove=${paint} onPointerUp=${send}></canvas>
    <div class="choices" role="group" aria-label="Class to paint">${Array.from({ length: classes }, (_, id) => html`<button type="button" aria-pressed=${ink === id} onClick=${() => setInk(id)}><i style=${`background:${INKS[id % INKS.length]}`}></i>${names[id] ?? id}</button>`)}</div>
    <div class="row"><label>brush <input type="range" min="1" max=${Math.round(width / 3)} value=${brush} onInput=${(event) => setBrush(Number(event.target.value))} /></label>
      <button type="button" class="quiet" onClick=${() => { ids.current.fill(ink); show(); send(); }}>fill</button>
      <label class="file">or a file <input type="file" accept="image/png" onChange=${(event) => drop(event.target.files[0])} /></label>
      <button type="button" class="quiet" onClick=${() => set(null)}>held-out masks</button></div></div>`;
}
