// The servers that test.sh names, and one that answers as a test wants.

import { createServer } from 'node:http';

/** @param {string} name */
const variable = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: node/test.sh sets it`);
  return value;
};

/** Without certificates, one partition. */
export const SERVER = variable('WALENGINE_URL');
/** Wants certificates. */
export const TLS_SERVER = variable('WALENGINE_TLS_URL');
/** Directory of a client's certificate. */
export const TLS_DIR = variable('WALENGINE_TLS_DIR');

/**
 * A server of a test's own, closed when the test ends.
 * @param {import('node:test').TestContext} t
 * @param {import('node:http').RequestListener} answer
 * @returns {Promise<string>} Its address.
 */
export async function serve(t, answer) {
  const server = createServer(answer);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return `http://127.0.0.1:${address.port}`;
}

/**
 * Passes a request on to a server, as a proxy.
 * @param {import('node:http').IncomingMessage} request
 * @param {string} server
 */
export async function passOn(request, server) {
  /** @type {Buffer[]} */
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = request.method === 'POST' ? Buffer.concat(pieces) : undefined;
  const headers = { 'content-type': 'application/json' };
  return fetch(new URL(request.url ?? '/', server), { method: request.method ?? 'GET', headers, body });
}
