// A generator in the browser: weights of several moments, the network as an ONNX graph, specimens by number.
import { env, InferenceSession, Tensor } from "../vendor/ort.js";
import { integer, normal } from "./random.js";
import { sampled } from "./sampler.js";

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const inflated = async (text) =>
  new Uint8Array(await new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer());
const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);
const HELD = 8; // moments whose networks stay

export class Generator {
  // model: what export/browser.py made. wasm: the engine, deflated, in base64.
  constructor(model, wasm) {
    Object.assign(this, { model, wasm, moments: [], sessions: new Map() });
  }

  async begin() {
    env.wasm.numThreads = 1;
    env.logLevel = "error";
    env.wasm.wasmBinary = (await inflated(this.wasm)).buffer;
    this.graph = await inflated(this.model.graphs.network.onnx);
    this.given = {};
    for (const [name, { shape, data }] of Object.entries(this.model.given))
      this.given[name] = { size: sizeOf(shape), rows: new Float32Array((await inflated(data)).buffer) };
    if (this.model.graphs.decoder) this.decoder = await this.session(await inflated(this.model.graphs.decoder.onnx));
    return this;
  }

  session(graph, weights) {
    const externalData = weights && [{ path: "weights", data: weights }];
    return InferenceSession.create(graph, { executionProviders: ["wasm"], externalData });
  }

  // Weights of a moment: bfloat16 as integers in the order of their values, differences from the moment before.
  async integers(moment) {
    for (let at = this.moments.length; at <= moment; at += 1) {
      const planes = await inflated(this.model.weights[at]), count = planes.length / 2;
      const before = this.moments[at - 1], now = new Uint16Array(count);
      for (let index = 0; index < count; index += 1) {
        const zigzag = (planes[index] << 8) | planes[count + index];
        now[index] = (before?.[index] ?? 0) + ((zigzag >> 1) ^ -(zigzag & 1));
      }
      this.moments.push(now);
    }
    return this.moments[moment];
  }

  async network(moment) {
    if (!this.sessions.has(moment)) {
      const integers = await this.integers(moment), bits = new Uint32Array(integers.length);
      integers.forEach((value, at) => { bits[at] = (value & 0x8000 ? value ^ 0x8000 : value ^ 0xffff) << 16; });
      this.sessions.set(moment, await this.session(this.graph, new Uint8Array(bits.buffer)));
      while (this.sessions.size > HELD) {
        const [oldest] = this.sessions.keys();
        this.sessions.get(oldest).release();
        this.sessions.delete(oldest);
      }
    }
    return this.sessions.get(moment);
  }

  // Images of the specimens `numbers` as grey levels (n, C, H, W). stated: conditions that replace their own, null
  // for none at all. seen(pixels, evaluation): what the sampler makes of them so far.
  async draw(request, seen) {
    const { moment, numbers, stated = {}, guidance = 1, evaluations } = request;
    if (numbers.length > 1 && !this.model.graphs.network.many) {
      const parts = [];
      for (const number of numbers) parts.push(await this.draw({ ...request, numbers: [number] }));
      return Uint8ClampedArray.from(parts.flatMap((part) => [...part]));
    }
    const { model } = this, session = await this.network(moment), count = numbers.length;
    const joined = (part, size) => {
      const all = new Float32Array(count * size);
      numbers.forEach((number, row) => all.set(part(number), row * size));
      return all;
    };
    const noise = (name, shape) => joined((number) => normal(model.keys[name], number, sizeOf(shape)), sizeOf(shape));
    const conditions = {};
    for (const [name, { kind, size }] of Object.entries(model.conditions)) {
      const value = stated?.[name];
      if (kind === "label") conditions[name] = numbers.map((number) => value ?? integer(model.keys.label, number, size));
      else conditions[name] = joined((number) => value ?? this.rows(name, number), this.given[name].size);
    }
    const present = Object.keys(conditions).length > 0 && stated !== null;
    const feeds = (values, twice) => {
      const rows = twice ? 2 * count : count, made = {};
      const shaped = (array, shape) => {
        const all = new Float32Array(rows * sizeOf(shape));
        all.set(array);
        if (twice) all.set(array, array.length);
        return new Tensor("float32", all, [rows, ...shape]);
      };
      for (const name of session.inputNames) {
        if (name === "present") made[name] = new Tensor("bool", Uint8Array.from({ length: rows }, (_, row) => Number(present && row < count)), [rows]);
        else if (name in values) made[name] = shaped(...values[name]);
        else if (model.conditions[name].kind === "label") made[name] = new Tensor("int64", BigInt64Array.from({ length: rows }, (_, row) => BigInt(conditions[name][row % count])), [rows]);
        else made[name] = shaped(conditions[name], model.given[name].shape);
      }
      return made;
    };
    const run = async (values, twice = false) => (await session.run(feeds(values, twice)))[session.outputNames[0]].data;
    const latent = noise("latent", model.latent);
    if (!model.programs) {
      const values = { latent: [latent, model.latent] };
      for (const [name, shape] of Object.entries(model.noises)) values[name] = [noise(name, shape), shape];
      return this.pixels(await run(values), count);
    }
    const network = async (x, t, guided) => {
      const values = { x: [x, model.latent], t: [new Float32Array(count).fill(t), []] };
      if (!present || !guided || guidance === 1) return run(values);
      const both = await run(values, true), size = x.length;
      return x.map((_, at) => both[size + at] + guidance * (both[at] - both[size + at]));
    };
    const show = seen && (async (estimate, k) => seen(await this.pixels(estimate, count), k));
    const drawn = await sampled(model.programs[evaluations ?? model.chosen], latent, network,
      (interval) => noise(`sampler ${interval}`, model.latent), show);
    return this.pixels(drawn, count);
  }

  rows(name, number) {
    const { size, rows } = this.given[name], many = rows.length / size;
    return rows.subarray((number % many) * size, (number % many + 1) * size);
  }

  async pixels(x, count) {
    if (this.decoder) x = await this.decoded(x, count);
    return Uint8ClampedArray.from(x, (value) => ((value || 0) + 1) * 127.5); // rounds half to even, as torch does
  }

  // Latents as images, one after the other.
  async decoded(x, count) {
    const size = x.length / count, { inputNames: [input], outputNames: [output] } = this.decoder, parts = [];
    for (let row = 0; row < count; row += 1) {
      const latent = new Tensor("float32", Float32Array.from(x.subarray(row * size, (row + 1) * size)), [1, ...this.model.latent]);
      parts.push((await this.decoder.run({ [input]: latent }))[output].data);
    }
    const made = new Float32Array(count * parts[0].length);
    parts.forEach((part, row) => made.set(part, row * part.length));
    return made;
  }
}
