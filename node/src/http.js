/**
 * Requests to a cluster's nodes: sent again with the same ids until there is an answer or the deadline has passed.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, fetch } from 'undici';
import { BadAnswer, DeadlineExceeded, OutcomeUnknown, RequestRefused, Unreachable } from './errors.js';
import { ANSWER_BYTES_MAX, FIRST_PAUSE_MS, LAST_PAUSE_MS, SILENT_MS_MAX } from './limits.js';

/** Answers by which another try may go better. */
const PASSING = new Set([429, 502, 503, 504]);
/** Answers that say what was asked for: 409 has a verdict. */
const OUTCOMES = new Set([200, 201, 409]);
/** Failures of a connection that had sent nothing yet. */
const NOT_SENT = new Set([
  'EAI_AGAIN', 'ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'UND_ERR_CONNECT_TIMEOUT',
]);
/** Failures of a handshake: no request is sent before both ends have proven who they are. */
const NOT_BELIEVED = /CERT|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/;

/**
 * Certificates: a directory as `walengine cert` makes it, or what is in it.
 * @typedef {string | { ca: string, cert: string, key: string }} Tls
 */

/**
 * One request.
 * @typedef {object} Ask
 * @property {'GET' | 'POST'} method
 * @property {string} path
 * @property {string} [body] JSON.
 * @property {boolean} [isWrite] It may change something.
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal] The caller's.
 */

/** @typedef {{ status: number, body: any, tokens: string[] }} Answer */

/**
 * What an error of a system call or of TLS is called.
 * @param {any} error
 * @returns {string}
 */
function codeOf(error) {
  return error?.cause?.code ?? error?.code ?? '';
}

/**
 * It is known that nothing of the request has reached anybody.
 * @param {any} error
 */
function isUnsent(error) {
  const code = codeOf(error);
  const first = error?.cause?.errors?.[0]?.code; // of several addresses
  return NOT_SENT.has(code) || NOT_SENT.has(first) || NOT_BELIEVED.test(code);
}

/** The nodes of a cluster, one of which is asked. */
export class Nodes {
  /** @type {URL[]} */ #servers;
  /** @type {Agent} */ #agent;
  /** For answers that have no end. @type {Agent} */ #streams;
  /** The one that answered last. */
  #at = 0;
  #timeout;

  /**
   * @param {string[]} servers Addresses such as `http://127.0.0.1:7480`.
   * @param {{ tls?: Tls, timeout: number }} options
   */
  constructor(servers, { tls, timeout }) {
    this.#servers = servers.map((server) => new URL(server));
    this.#timeout = timeout;
    const read = (/** @type {string} */ dir) => ({
      ca: readFileSync(join(dir, 'ca.pem'), 'utf8'),
      cert: readFileSync(join(dir, 'identity.pem'), 'utf8'),
      key: readFileSync(join(dir, 'identity.key'), 'utf8'),
    });
    const connect = typeof tls === 'string' ? read(tls) : tls;
    const options = { ...(connect && { connect }), bodyTimeout: SILENT_MS_MAX };
    this.#agent = new Agent({ ...options, maxResponseSize: ANSWER_BYTES_MAX });
    this.#streams = new Agent(options);
  }

  /** Ends its connections. */
  async close() {
    await Promise.all([this.#agent.destroy(), this.#streams.destroy()]);
  }

  /** The next node is asked from now on. */
  turn() {
    this.#at = (this.#at + 1) % this.#servers.length;
  }

  /**
   * Asks once.
   * @param {Ask} ask
   * @param {AbortSignal} signal
   */
  once(ask, signal) {
    return this.#send(ask, signal, this.#agent);
  }

  /**
   * Asks once, for an answer that has no end.
   * @param {Ask} ask
   * @param {AbortSignal} signal
   */
  stream(ask, signal) {
    return this.#send(ask, signal, this.#streams);
  }

  /**
   * @param {Ask} ask
   * @param {AbortSignal} signal
   * @param {Agent} dispatcher
   */
  #send(ask, signal, dispatcher) {
    const headers = { ...ask.headers, ...(ask.body !== undefined && { 'content-type': 'application/json' }) };
    const url = new URL(ask.path, this.#servers[this.#at]);
    return fetch(url, { method: ask.method, headers, body: ask.body, signal, dispatcher });
  }

  /**
   * Asks until there is an answer.
   * @param {Ask} ask
   * @returns {Promise<Answer>} An answer below 400, or one with a verdict, or 404.
   * @throws {import('./errors.js').WalengineError}
   */
  async ask(ask) {
    const deadline = AbortSignal.timeout(this.#timeout);
    const signal = ask.signal ? AbortSignal.any([deadline, ask.signal]) : deadline;
    let pause = FIRST_PAUSE_MS;
    let mayHaveChanged = false;
    /** @type {unknown} */
    let last;
    for (;;) {
      let isUnderWay = false;
      try {
        signal.throwIfAborted();
        isUnderWay = true;
        const response = await this.once(ask, signal);
        const text = await response.text();
        isUnderWay = false;
        const answer = read(response, text, ask, mayHaveChanged);
        if ('body' in answer) return answer;
        mayHaveChanged ||= answer.problem?.may_have_changed ?? true;
        last = answer;
        pause = Math.max(pause, answer.retryAfter * 1000);
      } catch (error) {
        if (error instanceof RequestRefused || error instanceof OutcomeUnknown || error instanceof BadAnswer) throw error;
        mayHaveChanged ||= isUnderWay && !isUnsent(error);
        if (!signal.aborted) last = error;
      }
      this.turn();
      await sleep(Math.min(pause, LAST_PAUSE_MS) * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {});
      pause *= 2;
      if (signal.aborted) throw givenUp(ask, mayHaveChanged, last, this.#timeout);
    }
  }
}

/**
 * What an answer means: an answer, or that another try may go better.
 * @param {import('undici').Response} response
 * @param {string} text
 * @param {Ask} ask
 * @param {boolean} mayHaveChanged By an earlier try.
 * @returns {Answer | RequestRefused}
 */
function read(response, text, ask, mayHaveChanged) {
  const type = response.headers.get('content-type') ?? '';
  /** @type {any} */
  let body;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    const message = `${ask.path}: the answer is no JSON, status ${response.status}`;
    if (PASSING.has(response.status)) return new RequestRefused(message, { cause }); // of a proxy between
    throw ask.isWrite ? new OutcomeUnknown(message, { cause }) : new BadAnswer(message, { cause });
  }
  if (!type.startsWith('application/problem+json')) {
    if (!OUTCOMES.has(response.status)) {
      const message = `${ask.path}: status ${response.status} without a reason`;
      throw ask.isWrite ? new OutcomeUnknown(message) : new BadAnswer(message);
    }
    const tokens = (response.headers.get('walengine-token') ?? '').split(',').filter(Boolean);
    return { status: response.status, body, tokens };
  }
  const retryAfter = Number(response.headers.get('retry-after') ?? 0);
  const refused = new RequestRefused(`${body.title}: ${body.detail}`, { problem: body, retryAfter });
  if (PASSING.has(response.status)) return refused;
  if (body.code === 'not_found' && ask.method === 'GET') return { status: 404, body: null, tokens: [] };
  if (ask.isWrite && (mayHaveChanged || body.may_have_changed)) {
    throw new OutcomeUnknown(refused.message, { cause: refused, problem: body, retryAfter });
  }
  throw refused;
}

/**
 * The error of a call whose deadline has passed, or that the caller has given up.
 * @param {Ask} ask
 * @param {boolean} mayHaveChanged
 * @param {any} last What the last try came to.
 * @param {number} timeout
 */
function givenUp(ask, mayHaveChanged, last, timeout) {
  const why = ask.signal?.aborted ? 'it was given up' : `there was no answer within ${timeout} ms`;
  const said = last ? `; the last try: ${last.cause?.message || last.cause?.code || last.message}` : '';
  const message = `${ask.method} ${ask.path}: ${why}${said}`;
  const known = { cause: ask.signal?.aborted ? ask.signal.reason : last, problem: last?.problem, retryAfter: last?.retryAfter };
  if (ask.isWrite && mayHaveChanged) return new OutcomeUnknown(message, known);
  if (last && !(last instanceof RequestRefused) && isUnsent(last)) return new Unreachable(message, known);
  return new DeadlineExceeded(message, known);
}
