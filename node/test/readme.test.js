// Does README do what it says?

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { inspect } from 'node:util';
import * as walengine from 'walengine';
import { SERVER } from './servers.js';

test('the examples of README print what they say', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const examples = [...readme.matchAll(/^```js\n(.*?)^```/gms)].map((found) => found[1] ?? '');
  assert.equal(examples.length, 3);
  const source = examples.join('').replace(/^import (.*) from 'walengine';$/m, 'const $1 = walengine;');
  const expected = [...source.matchAll(/\/\/=> (.*)$/gm)].map((found) => found[1]);
  /** @type {string[]} */
  const printed = [];
  /** @param {unknown[]} values */
  const log = (...values) => printed.push(values.map((one) => (typeof one === 'string' ? one : inspect(one))).join(' '));
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
  const run = new AsyncFunction('walengine', 'console', source.replaceAll('http://127.0.0.1:7480', SERVER));
  await run(walengine, { log });
  assert.deepEqual(printed, expected);
});
