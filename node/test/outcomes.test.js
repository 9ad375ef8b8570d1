// Is an id's verdict the first one, whatever breaks on the way, and does an error say whether anything may have changed?

import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { BadAnswer, Client, DeadlineExceeded, NothingChanged, OutcomeUnknown, RequestRefused, Unreachable } from 'walengine';
import { SERVER, TLS_DIR, TLS_SERVER, passOn, serve } from './servers.js';

/** Where nobody listens: the port is for services that nobody has any more. */
const NOBODY = 'http://127.0.0.1:3';
const [TILL, ANNA] = ['outcomes till', 'outcomes anna'];
/** @param {string} id */
const transfer = (id, amount = 5n) =>
  ({ id, debit_account: TILL, credit_account: ANNA, amount, ledger: 978, code: 1 });

/**
 * @param {import('node:test').TestContext} t
 * @param {string | string[]} [servers]
 * @param {import('../src/client.js').Options} [options]
 */
const connect = (t, servers = SERVER, options = { timeout: 5_000 }) => {
  const client = new Client(servers, options);
  t.after(() => client.close());
  return client;
};

test.before(async () => {
  const client = new Client(SERVER);
  for (const id of [TILL, ANNA]) await client.createAccount({ id, ledger: 978, code: 1 });
  await client.close();
});

/** @param {Client} client */
const received = async (client) => (await client.account(ANNA, { read: 'linearizable' }))?.credits_posted ?? -1n;

test('numbers keep every digit', async (t) => {
  const client = connect(t);
  const big = 2n ** 128n - 1n;
  const id = 'outcomes digits';
  assert.equal((await client.transfer(transfer('outcomes first'))).ok, true);
  const made = await client.createAccount({ id, ledger: 978, code: 1, user_data_128: big, user_data_64: 2n ** 64n - 1n });
  const account = await client.account(id, { tokens: made.tokens });
  assert.equal(account?.user_data_128, big);
  assert.equal(account?.user_data_64, 2n ** 64n - 1n);
  const all = { ...transfer('outcomes all', big), credit_account: id };
  assert.equal((await client.transfer(all)).verdict, 'overflows_debits_posted', 'after less than all');
  const much = { ...transfer('outcomes much', 2n ** 127n + 1n), credit_account: id };
  const { tokens } = await client.transfer(much);
  assert.equal((await client.account(id, { tokens }))?.credits_posted, 2n ** 127n + 1n);
  const event = (await client.decision('outcomes much'))?.event;
  assert.ok(event?.type === 'transfer' && event.amount === 2n ** 127n + 1n);
});

test('an event without an id is not sent', async (t) => {
  const client = connect(t, NOBODY); // nobody is there to be asked
  // @ts-expect-error: by its types, too
  await assert.rejects(client.transfer({ ...transfer('x'), id: undefined }), TypeError);
  await assert.rejects(client.submit([{ type: 'transfer', ...transfer('') }]), TypeError);
});

test('an answer that is lost is asked for again, and moves nothing twice', async (t) => {
  let lost = 0;
  const url = await serve(t, async (request, response) => {
    const answer = await passOn(request, SERVER);
    if (request.url === '/api/v1/transfers' && lost++ < 2) return response.destroy();
    const headers = { 'content-type': answer.headers.get('content-type') ?? '', 'walengine-token': answer.headers.get('walengine-token') ?? '' };
    response.writeHead(answer.status, headers).end(await answer.text());
  });
  const client = connect(t, url);
  const before = await received(client);
  const outcome = await client.transfer(transfer('outcomes lost'));
  assert.deepEqual([outcome.ok, outcome.repeat, lost], [true, true, 3]);
  assert.equal(await received(client), before + 5n);
});

test('a write whose answer never comes is unknown, and its id tells what came of it', async (t) => {
  const url = await serve(t, async (request, response) => {
    await passOn(request, SERVER);
    response.destroy();
  });
  const client = connect(t, url, { timeout: 300 });
  const error = await client.transfer(transfer('outcomes unknown')).catch((error) => error);
  assert.ok(error instanceof OutcomeUnknown, String(error));
  assert.ok(error.mayHaveChanged);
  assert.equal((await connect(t).status('outcomes unknown'))?.verdict, 'ok');
});

test('what nobody has taken has changed nothing', async (t) => {
  const error = await connect(t, NOBODY, { timeout: 200 }).transfer(transfer('nobody')).catch((error) => error);
  assert.ok(error instanceof Unreachable && !error.mayHaveChanged, String(error));
  const busy = await serve(t, (_, response) => {
    const problem = { title: 'The server is busy', detail: 'later', status: 503, code: 'busy', may_have_changed: false };
    response.writeHead(503, { 'content-type': 'application/problem+json', 'retry-after': '1' }).end(JSON.stringify(problem));
  });
  const late = await connect(t, busy, { timeout: 200 }).transfer(transfer('nobody')).catch((error) => error);
  assert.ok(late instanceof DeadlineExceeded && late.code === 'busy' && late.retryAfter === 1, String(late));
  assert.equal(await connect(t).status('nobody'), null);
});

test('a write that is under way when it is given up is unknown, and one that is not has changed nothing', async (t) => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  const address = silent.address();
  assert.ok(address !== null && typeof address === 'object');
  t.after(() => silent.close());
  const client = connect(t, `http://127.0.0.1:${address.port}`);
  const giving = new AbortController();
  const under = client.transfer(transfer('given up'), { signal: giving.signal });
  setTimeout(() => giving.abort(), 50);
  await assert.rejects(under, OutcomeUnknown);
  await assert.rejects(client.transfer(transfer('given up'), { signal: AbortSignal.abort() }), NothingChanged);
  const reading = client.account(ANNA, { signal: AbortSignal.timeout(50) });
  await assert.rejects(reading, NothingChanged);
});

test('a request that makes no sense is refused with the reason, at once', async (t) => {
  const client = connect(t);
  const error = await client.transfer({ ...transfer('outcomes no sense'), amount: '1.5' }).catch((error) => error);
  assert.ok(error instanceof RequestRefused && error.code === 'malformed', String(error));
  assert.equal(error.problem?.pointer, '/amount');
  await assert.rejects(client.account('x', { tokens: ['ff'.repeat(16) + '-0-1'] }), RequestRefused);
});

test('another program there is told from walengine', async (t) => {
  const url = await serve(t, (_, response) => response.end('<html>'));
  await assert.rejects(connect(t, url).account('x'), BadAnswer);
  await assert.rejects(connect(t, url).transfer(transfer('x')), OutcomeUnknown);
});

test('the next node is asked when one is gone', async (t) => {
  const client = connect(t, [NOBODY, SERVER]);
  assert.equal((await client.transfer(transfer('outcomes next node'))).ok, true);
});

test('with certificates both ends prove who they are', async (t) => {
  const client = connect(t, TLS_SERVER, { tls: TLS_DIR, timeout: 5_000 });
  const made = await client.createAccount({ id: 'secured', ledger: 978, code: 1 });
  assert.equal((await client.account('secured', made))?.ledger, 978);
  const stranger = connect(t, TLS_SERVER, { timeout: 300 });
  // A handshake that is under way at the deadline might be a request, for all that is known: then it is asked anew.
  let error;
  for (let tries = 0; tries < 10 && !(error instanceof Unreachable); tries += 1) {
    error = await stranger.createAccount({ id: 'secured', ledger: 978, code: 1 }).catch((error) => error);
    assert.match(String(error), /certificate/);
  }
  assert.ok(error instanceof Unreachable, String(error));
});
