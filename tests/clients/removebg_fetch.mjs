// The same contract without a package: fetch, a form, and the answer's bytes.
import { readFile, writeFile } from "node:fs/promises";

const [key, path] = process.argv.slice(2);
const form = new FormData();
form.append("size", "auto");
form.append("image_file", new Blob([await readFile(path)]), "photo.jpg");
const answer = await fetch("https://api.remove.bg/v1.0/removebg", {
  method: "POST", headers: { "X-Api-Key": key }, body: form,
});
if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
await writeFile("fetch.png", Buffer.from(await answer.arrayBuffer()));
