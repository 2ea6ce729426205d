// node_llama_cpp.mjs FOLDER MODEL PROMPT PREDICT: as many tokens by the node-llama-cpp in a folder,
// and its own account of them; with "wait" as one more word it is ready, and then waits for a line.
import {createRequire} from "node:module";
import {once} from "node:events";
import {pathToFileURL} from "node:url";

const [folder, path, prompt, predict, wait] = process.argv.slice(2);
const found = createRequire(`${folder}/`).resolve("node-llama-cpp");
const {getLlama} = await import(pathToFileURL(found));
const log = [];
const llama = await getLlama({
    gpu: false, build: "never", maxThreads: 2, logLevel: "info", logger: (_, text) => log.push(text)
});
const model = await llama.loadModel({modelPath: path});
const context = await model.createContext({threads: 2, contextSize: 512, performanceTracking: true});
const words = Array.from({length: Number(prompt)}, (_, index) => 3 + index % 50);
if (wait) {
    console.log("ready");
    await once(process.stdin, "data");
}
let count = 0;
for await (const _ of context.getSequence().evaluate(words, {temperature: 0, yieldEogToken: true}))
    if (++count === Number(predict)) break;
await context.printTimings();
const number = (pattern) => Number(log.join("\n").match(pattern)[1]);
console.log(JSON.stringify({
    prompt: number(/prompt eval time.*\/ +(\d+) tokens/),
    decode: number(/ eval time.*\/ +(\d+) runs/),
    decode_ms: number(/: +eval time = +([\d.]+) ms/)
}));
process.exit(0);
