// Samplers as coefficients, made by export/browser.py: what each evaluation is given, and what is made of all.

// The sum of factor * value over [index, factor], in float64 and then rounded.
function combined(parts, values, length) {
  const total = new Float64Array(length);
  for (const [index, factor] of parts) {
    const value = values.get(index);
    for (let at = 0; at < length; at += 1) total[at] += factor * value[at];
  }
  return Float32Array.from(total);
}

// Images from noise. network(x_t, t, guided): the prediction, guided or not. noise(interval). seen(estimate, k).
export async function sampled(program, latent, network, noise, seen = () => {}) {
  const values = new Map([[0, latent.map((value) => value * program.start)]]);
  const drawn = (parts) => {
    for (const [index] of parts) if (index % 3 === 2 && !values.has(index)) values.set(index, noise((index - 2) / 3));
    return combined(parts, values, latent.length);
  };
  for (const [k, call] of program.calls.entries()) {
    const x = drawn(call.x);
    values.set(3 * k, x);
    const out = await network(x.map((value) => value * call.alpha), call.t, call.guided);
    const estimate = out.map((value, at) => {
      const made = call.x_factor * x[at] + call.out_factor * value;
      return program.clip ? Math.min(1, Math.max(-1, made)) : made;
    });
    values.set(3 * k + 1, estimate);
    await seen(estimate, k + 1);
  }
  return drawn(program.out);
}
