// An independent decoder of ESV2, written from schemas/sealing/ENVELOPE.md and RFC 9180.
//
//     node decoder.mjs < vectors.json
//
// Takes the vectors, and prints what each opens to as JSON: `{"content_type", "plaintext"}`, of a
// capsule `{"photo_key", "cutout_key"}`, or null if it is refused.  Uses what Node has, and no package.

import crypto from "node:crypto";
import fs from "node:fs";

const ascii = (text) => Buffer.from(text, "ascii");
const number = (value, bytes) => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(BigInt(value));
  return buffer.subarray(8 - bytes);
};
const uuid = (text) => Buffer.from(text.replaceAll("-", ""), "hex");
const sha256 = (data) => crypto.createHash("sha256").update(data).digest();
const hmac = (key, data) => crypto.createHmac("sha256", key).update(data).digest();
const hkdf = (key, salt, info, length) =>
  Buffer.from(crypto.hkdfSync("sha256", key, salt, info, length));

function refuse(reason) {
  throw new Error(reason);
}

function decrypt(key, nonce, sealed, aad) {
  if (sealed.length < 16) refuse("short");
  const cipher = crypto.createDecipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(aad);
  cipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]);
}

// HPKE, base mode, single-shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.

const KEM_SUITE = Buffer.concat([ascii("KEM"), number(0x20, 2)]);
const HPKE_SUITE = Buffer.concat([ascii("HPKE"), number(0x20, 2), number(1, 2), number(2, 2)]);
const NOTHING = Buffer.alloc(0);

const extract = (suite, salt, label, key) =>
  hmac(
    salt.length ? salt : Buffer.alloc(32),
    Buffer.concat([ascii("HPKE-v1"), suite, ascii(label), key]),
  );

// RFC 5869's expand step, for at most one block.
const expand = (suite, key, label, info, length) =>
  hmac(
    key,
    Buffer.concat([number(length, 2), ascii("HPKE-v1"), suite, ascii(label), info, Buffer.from([1])]),
  ).subarray(0, length);

const PRIVATE_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

export function hpkeOpen(privateBytes, encapsulated, ciphertext, info, aad = NOTHING) {
  const der = { format: "der", type: "pkcs8", key: Buffer.concat([PRIVATE_PREFIX, privateBytes]) };
  const privateKey = crypto.createPrivateKey(der);
  const ownPublic = crypto
    .createPublicKey(privateKey)
    .export({ format: "der", type: "spki" })
    .subarray(-32);
  const publicKey = crypto.createPublicKey({
    format: "der",
    type: "spki",
    key: Buffer.concat([PUBLIC_PREFIX, encapsulated]),
  });
  const dh = crypto.diffieHellman({ privateKey, publicKey });
  if (dh.equals(Buffer.alloc(32))) refuse("a public key of low order");
  const prk = extract(KEM_SUITE, NOTHING, "eae_prk", dh);
  const context = Buffer.concat([encapsulated, ownPublic]);
  const shared = expand(KEM_SUITE, prk, "shared_secret", context, 32);
  const schedule = Buffer.concat([
    Buffer.from([0]),
    extract(HPKE_SUITE, NOTHING, "psk_id_hash", NOTHING),
    extract(HPKE_SUITE, NOTHING, "info_hash", info),
  ]);
  const secret = extract(HPKE_SUITE, shared, "secret", NOTHING);
  const key = expand(HPKE_SUITE, secret, "key", schedule, 32);
  const nonce = expand(HPKE_SUITE, secret, "base_nonce", schedule, 12);
  return decrypt(key, nonce, ciphertext, aad);
}

// The envelope.

const PARTS = { original: 1, cutout: 2 };
const LARGEST = 64_000_000;

const uploadDigest = ({ lane, account, upload }) =>
  sha256(Buffer.from(["erasestream/v2/upload", lane, account, upload].join("\0"), "utf8"));

function parse(sealed, digest, part) {
  if (sealed.length < 39 + 1 + 32 + 16 || sealed.length > LARGEST + 2048) refuse("length");
  const head = Buffer.concat([ascii("ESV2\x01"), digest, Buffer.from([PARTS[part]])]);
  if (!sealed.subarray(0, 38).equals(head)) refuse("magic, suite, upload or part");
  let at = 39 + sealed[38];
  const contentType = sealed.subarray(39, at).toString("latin1");
  if (contentType.length > 128 || !/^[a-z]+\/[a-z0-9.+-]{1,64}$/.test(contentType))
    refuse("content type");
  const context = sealed.subarray(0, at);
  const count = sealed[at++];
  if (!(count >= 1 && count <= 4)) refuse("number of blocks");
  const blocks = [];
  for (let index = 0; index < count; index++) {
    if (at + 3 + 48 > sealed.length) refuse("length");
    const kind = sealed[at];
    const value = sealed.subarray(at + 3, at + 3 + sealed.readUInt16BE(at + 1));
    at += 3 + sealed.readUInt16BE(at + 1);
    if (at + 48 > sealed.length) refuse("length");
    const split = kind === 1 ? 16 : 1 + value[0] + 8;
    const purpose = value.subarray(1, split - 8).toString("latin1");
    const isGrant = kind === 1 && value.length === 96;
    const isEpoch =
      kind === 2 && value.length === split + 80 && /^[a-z0-9][a-z0-9.-]{0,63}$/.test(purpose);
    if (!isGrant && !isEpoch) refuse("block");
    const id = Buffer.concat([Buffer.from([kind]), value.subarray(0, split)]);
    if (blocks.length && Buffer.compare(blocks.at(-1).id, id) >= 0) refuse("order of blocks");
    blocks.push({ id, encrypted: value.subarray(split) });
  }
  return { contentType, context, blocks, headerEnd: at };
}

function dataKey(vector, { context, blocks }) {
  const find = (id) =>
    blocks.find((block) => block.id.equals(id))?.encrypted ?? refuse("no block");
  if (vector.grant_key !== undefined) {
    const identity = uuid(vector.grant);
    const encrypted = find(Buffer.concat([Buffer.from([1]), identity]));
    const key = Buffer.from(vector.grant_key, "hex");
    const wrapping = hkdf(key, encrypted.subarray(0, 32), ascii("erasestream/v2/grant"), 32);
    const aad = Buffer.concat([identity, sha256(context), Buffer.from(vector.object, "utf8")]);
    return decrypt(wrapping, Buffer.alloc(12), encrypted.subarray(32), aad);
  }
  const identity = Buffer.concat([
    Buffer.from([vector.purpose.length]),
    ascii(vector.purpose),
    number(vector.epoch, 8),
  ]);
  const encrypted = find(Buffer.concat([Buffer.from([2]), identity]));
  const info = Buffer.concat([ascii("erasestream/v2/epoch"), identity, sha256(context)]);
  const key = Buffer.from(vector.epoch_key, "hex");
  return hpkeOpen(key, encrypted.subarray(0, 32), encrypted.subarray(32), info);
}

function open(vector) {
  const sealed = Buffer.from(vector.sealed, "hex");
  const header = parse(sealed, uploadDigest(vector), vector.part);
  const info = Buffer.concat([ascii("erasestream/v2/body"), sha256(header.context)]);
  const keys = hkdf(dataKey(vector, header), NOTHING, info, 64);
  const commitment = hmac(keys.subarray(32), sealed.subarray(0, header.headerEnd));
  const bodyAt = header.headerEnd + 32;
  if (!crypto.timingSafeEqual(commitment, sealed.subarray(header.headerEnd, bodyAt)))
    refuse("commitment");
  const body = sealed.subarray(bodyAt);
  const plaintext = decrypt(keys.subarray(0, 32), Buffer.alloc(12), body, header.context);
  return { content_type: header.contentType, plaintext: plaintext.toString("hex") };
}

// The capsule.

function openCapsule(vector) {
  const capsule = Buffer.from(vector.capsule, "hex");
  const identity = Buffer.concat([Buffer.from([4]), ascii("sink"), number(vector.epoch, 8)]);
  const head = Buffer.concat([ascii("ESC1"), identity]);
  if (capsule.length !== 193 || !capsule.subarray(0, 17).equals(head)) refuse("capsule");
  const digest = uploadDigest(vector);
  const info = Buffer.concat([ascii("erasestream/v2/capsule"), identity, digest]);
  const key = Buffer.from(vector.epoch_key, "hex");
  const content = hpkeOpen(key, capsule.subarray(17, 49), capsule.subarray(49), info);
  const dataKeyOf = (name, at) => {
    const expected = content.subarray(at + 32, at + 64);
    if (!crypto.timingSafeEqual(sha256(Buffer.from(vector[name], "hex")), expected)) refuse(name);
    return content.subarray(at, at + 32).toString("hex");
  };
  return { photo_key: dataKeyOf("photo", 0), cutout_key: dataKeyOf("cutout", 64) };
}

const openOrNull = (opening) => (vector) => {
  try {
    return opening(vector);
  } catch {
    return null;
  }
};
const answersTo = ({ opens, fails }, opening) => ({
  opens: opens.map(openOrNull(opening)),
  fails: fails.map(openOrNull(opening)),
});

const document = JSON.parse(fs.readFileSync(0, "utf8"));
const answers = answersTo(document, open);
answers.capsules = answersTo(document.capsules, openCapsule);
if (document.hpke !== undefined) {
  const values = ["private_key", "enc", "ciphertext", "info", "aad"];
  const bytes = values.map((name) => Buffer.from(document.hpke[name], "hex"));
  answers.hpke = hpkeOpen(...bytes).toString("hex");
}
process.stdout.write(JSON.stringify(answers));
