// Upload a photo without a package: fetch, a form, and the answer's bytes.
import { readFile, writeFile } from "node:fs/promises";

const [url, key, path, output] = process.argv.slice(2);
const form = new FormData();
form.append("size", "auto");
form.append("image_file", new Blob([await readFile(path)]), "photo.jpg");
const answer = await fetch(url, { method: "POST", headers: { "X-Api-Key": key }, body: form });
if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
await writeFile(output, Buffer.from(await answer.arrayBuffer()));
