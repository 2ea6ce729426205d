// llama_node.mjs FOLDER MODEL PROMPT PREDICT: as many tokens by the @fugood/llama.node in a folder,
// and its own account of them.
import {createRequire} from "node:module";

const [folder, path, prompt, predict] = process.argv.slice(2);
const {loadModel} = createRequire(`${folder}/`)("@fugood/llama.node");
const context = await loadModel({model: path, n_ctx: 512, n_threads: 2, n_gpu_layers: 0});
const {timings} = await context.completion({
    prompt: "x".repeat(Number(prompt)), n_predict: Number(predict), temperature: 0, ignore_eos: true
});
console.log(JSON.stringify({
    prompt: timings.prompt_n, decode: timings.predicted_n, decode_ms: timings.predicted_ms
}));
