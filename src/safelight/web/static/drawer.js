// The worker of a saved page that draws. A request is for a place of the page and has parts, a few images each; they
// are done one at a time, those of several places in turn. Of the requests for a place the latest counts.
import { Generator } from "./generator.js";

const latest = {};
let generator = null, working = Promise.resolve();

const follow = (request, parts) => { working = working.then(() => work(request, parts)).catch((error) => postMessage({ ...request, mistake: error.message })); };

async function work(request, [part, ...rest]) {
  await new Promise((go) => setTimeout(go)); // lets a later request in
  if (request.id !== latest[request.place]) return;
  const made = await generator, begun = performance.now();
  const pixels = await made.draw({ ...request.how, ...part });
  postMessage({ ...request, at: part.at, pixels, left: rest.length, seconds: (performance.now() - begun) / 1000 / part.numbers.length });
  if (rest.length) follow(request, rest);
}

addEventListener("message", ({ data }) => {
  if (data.model) {
    generator = new Generator(JSON.parse(data.model), data.engine).begin();
    return;
  }
  const { parts, ...request } = data;
  latest[request.place] = request.id;
  follow(request, parts);
});
