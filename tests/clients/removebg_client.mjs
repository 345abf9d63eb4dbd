// Calls of the package remove.bg, for each way to send a photo.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(import.meta.url);
const client = require("remove.bg");
const [key, path] = process.argv.slice(2);
const common = { apiKey: key, size: "regular", type: "product" };
const photo = readFileSync(path).toString("base64");

const file = await client.removeBackgroundFromImageFile({ ...common, path, outputFile: "file.png" });
const base64 = await client.removeBackgroundFromImageBase64({
  ...common, base64img: photo, crop: true, crop_margin: "2px", bg_color: "81d4fa", format: "jpg",
});
const url = "https://example.com/photo.jpg";
const refused = await client.removeBackgroundFromImageUrl({ ...common, url }).catch((e) => e);
const scaled = await client
  .removeBackgroundFromImageFile({ ...common, path, scale: "50%" }).catch((e) => e);
const stranger = await client
  .removeBackgroundFromImageFile({ ...common, path, apiKey: "nobody" }).catch((e) => e);
console.log(JSON.stringify({ file, base64, refused, scaled, stranger }));
