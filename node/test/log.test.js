// Does whoever follows the log get every record once and in order, whatever becomes of the connection?

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadAnswer, Client, RequestRefused } from 'walengine';
import { SERVER, serve } from './servers.js';

const ids = Array.from({ length: 40 }, (_, number) => `log ${number}`);

test('a stream whose connection is cut goes on where it was', async (t) => {
  const bank = new Client(SERVER);
  t.after(() => bank.close());
  const outcomes = (await bank.submit(ids.map((id) => ({ type: 'account', id, ledger: 978, code: 1 })))).outcomes;
  assert.ok(outcomes.every((outcome) => outcome.ok));
  const from = outcomes[0]?.offset ?? -1n;

  let connections = 0;
  const url = await serve(t, async (request, response) => {
    connections += 1;
    const giving = new AbortController();
    response.on('close', () => giving.abort());
    const answer = await fetch(new URL(request.url ?? '/', SERVER), { signal: giving.signal });
    response.writeHead(answer.status, { 'content-type': 'text/event-stream' });
    let left = 2_500; // bytes that this connection brings: it ends in the middle of a record
    try {
      for await (const piece of answer.body ?? []) {
        response.write(piece.subarray(0, left));
        left -= piece.length;
        if (left <= 0) break;
      }
    } catch {
      return; // the reader has gone
    }
    setTimeout(() => response.destroy(), 20);
  });
  const reader = new Client(url);
  t.after(() => reader.close());
  const seen = [];
  for await (const record of reader.follow(0, { from })) {
    seen.push(record.offset);
    if (seen.length === ids.length) break;
  }
  assert.deepEqual(seen, ids.map((_, number) => from + BigInt(number)));
  assert.ok(connections > 3, `${connections} connections`);
});

test('without a beginning comes what is written from then on', async (t) => {
  const bank = new Client(SERVER);
  t.after(() => bank.close());
  const end = (await bank.log(0, { from: 2n ** 53n - 1n })).durable;
  const records = bank.follow(0);
  const first = records.next();
  for (let number = 0; ; number++) {
    // It may begin behind one that was written before it had asked: then it brings the next.
    await bank.createAccount({ id: `log new ${number}`, ledger: 978, code: 1 });
    const record = await Promise.race([first, new Promise((resolve) => setTimeout(resolve, 100))]);
    if (record === undefined) continue;
    assert.ok(record.value.offset >= end);
    break;
  }
  await records.return();
});

test('a signal ends it, and what is not there is refused', async (t) => {
  const bank = new Client(SERVER);
  t.after(() => bank.close());
  const seen = [];
  for await (const record of bank.follow(0, { signal: AbortSignal.timeout(100) })) seen.push(record);
  assert.deepEqual(seen, []);
  await assert.rejects(bank.follow(0, { from: 2n ** 40n }).next(), { code: 'past_the_end' });
  await assert.rejects(bank.follow(77, { from: 0n }).next(), RequestRefused);
});

test('an event without an end is not kept', async (t) => {
  const url = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: ');
    const more = () => response.write('x'.repeat(1 << 20)) ? setImmediate(more) : response.once('drain', more);
    more();
  });
  const reader = new Client(url);
  t.after(() => reader.close());
  await assert.rejects(reader.follow(0, { from: 0n }).next(), BadAnswer);
});

test('pages and lists have all of it', async (t) => {
  const bank = new Client(SERVER);
  t.after(() => bank.close());
  const page = await bank.log(0, { limit: 3 });
  assert.deepEqual([page.records.length, page.next], [3, 3n]);
  const listed = [];
  for await (const account of bank.listAccounts(0)) listed.push(account.id);
  assert.ok(listed.length >= ids.length);
  assert.equal(new Set(listed).size, listed.length);
  assert.equal((await bank.cluster()).partitions.length, 1);
});
