// Writes licenses.txt beside the page: the licence of each npm package that its bundle may hold.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

const OUT = "../keras_ae/web/licenses.txt";
// Packages that name their licence, and bring no text of it.
const MIT = (holder) => `MIT License

Copyright (c) ${holder}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;
const ISC = (holder) => `ISC License

Copyright (c) ${holder}

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED
WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR
CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF
CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.`;
const TEXTS = {
  "guid-typescript": ISC("nicolas"),
  "onnxruntime-web": MIT("Microsoft Corporation"),
  "onnxruntime-common": MIT("Microsoft Corporation"),
};

const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8"));
const parts = [];
for (const [folder, of] of Object.entries(packages).sort()) {
  if (!folder || of.dev || of.optional || of.peer) continue;
  const name = folder.replace(/.*node_modules\//, "");
  const file = existsSync(folder) && readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : TEXTS[name];
  if (!text) throw new Error(`${name} ${of.version} (${of.license}) brings no text of its licence: add it to licenses.mjs`);
  parts.push(`${name} ${of.version} (${of.license})\n\n${text}`);
}
const head = `What this page is made of, beside keras_ae itself. What ONNX Runtime is made of in turn is in ThirdPartyNotices.txt of
the Python package onnxruntime, which keras-ae installs.`;
writeFileSync(OUT, `${head}\n\n${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`);
