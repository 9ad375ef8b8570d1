/** The client: what can be asked of a cluster. */

import { follow } from './follow.js';
import { Nodes } from './http.js';
import { given, outcomeOf, requireId, shown } from './values.js';

/** Where a server is, unless told otherwise. */
const SERVER_DEFAULT = 'http://127.0.0.1:7480';
/** Deadline of a call in milliseconds, unless told otherwise. */
const TIMEOUT_DEFAULT = 10_000;
/** Largest offset that the API takes: the end of every log is before it. */
const OFFSET_MAX = 2n ** 53n - 1n;

/**
 * How a client finds its cluster.
 * @typedef {object} Options
 * @property {import('./http.js').Tls} [tls] Directory of a certificate as `walengine cert` makes it, or its contents.
 * @property {number} [timeout] Deadline of every call in milliseconds, tries included.
 */

/**
 * How fresh a read must be.
 * @typedef {object} Fresh
 * @property {string[]} [tokens] Writes that the answer must include, on whatever node.
 * @property {'any' | 'leader' | 'linearizable'} [read] Which nodes answer.
 * @property {AbortSignal} [signal] Gives the call up.
 */

/** @typedef {{ signal?: AbortSignal }} Call */

/**
 * A client of a cluster.
 *
 * Every call has a deadline. Until then a request is sent again, to the next node if there are several, with the same ids,
 * which is safe because an id has one verdict for ever. If the outcome of a write is not known at the deadline, or when it
 * is given up, it throws {@link import('./errors.js').OutcomeUnknown}; every other error says that nothing was changed.
 */
export class Client {
  #nodes;

  /**
   * @param {string | string[]} [servers] Addresses of HTTP of one or more nodes.
   * @param {Options} [options]
   */
  constructor(servers = SERVER_DEFAULT, { tls, timeout = TIMEOUT_DEFAULT } = {}) {
    this.#nodes = new Nodes([servers].flat(), { tls, timeout });
  }

  /** Ends its connections. */
  async close() {
    await this.#nodes.close();
  }

  /**
   * Creates an account. One that is there with the same fields is a repeat.
   * @param {import('./values.js').NewAccount} account
   * @param {Call} [call]
   */
  async createAccount(account, call) {
    return this.#one('/api/v1/accounts', account, call);
  }

  /**
   * Submits a transfer, or the end of a pending one. A refusal is an outcome, and not an error.
   * @param {import('./values.js').NewTransfer} transfer
   * @param {Call} [call]
   */
  async transfer(transfer, call) {
    return this.#one('/api/v1/transfers', transfer, call);
  }

  /**
   * Submits a batch, at most 8,190 events. Those that are `linked` to the next succeed or fail together with it.
   * @param {import('./values.js').NewEvent[]} events
   * @param {Call} [call]
   * @returns {Promise<import('./values.js').Submitted>}
   */
  async submit(events, { signal } = {}) {
    events.forEach(requireId);
    const body = given({ events });
    const answer = await this.#nodes.ask({ method: 'POST', path: '/api/v1/events', body, isWrite: true, signal });
    return { outcomes: answer.body.outcomes.map(outcomeOf), tokens: answer.tokens };
  }

  /**
   * An account; `null`: there is none.
   * @param {string} id UUID, number or any other text.
   * @param {Fresh} [fresh]
   * @returns {Promise<import('./values.js').Account | null>}
   */
  async account(id, fresh) {
    return this.#get(`/api/v1/accounts/${encodeURIComponent(id)}`, fresh);
  }

  /**
   * Accounts in the order of their ids, at most 4,096; `null`: there is none.
   * @param {string[]} ids
   * @param {Fresh} [fresh]
   * @returns {Promise<(import('./values.js').Account | null)[]>}
   */
  async accounts(ids, fresh) {
    return (await this.#find('/api/v1/accounts/lookup', ids, fresh)).accounts;
  }

  /**
   * Every account of a partition, in the order in which they were created.
   * @param {number} [partition]
   * @param {Fresh} [fresh]
   * @returns {AsyncGenerator<import('./values.js').Account, void, void>}
   */
  async *listAccounts(partition = 0, fresh) {
    let after = '';
    for (;;) {
      const page = await this.#get(`/api/v1/accounts?partition=${partition}&limit=1000${after}`, fresh);
      yield* page.accounts;
      if (page.next === undefined || page.next === null) return;
      after = `&after=${page.next}`;
    }
  }

  /**
   * A transfer, guard or close, and its verdict; `null`: nothing was decided about the id.
   * @param {string} id
   * @param {Fresh} [fresh]
   * @returns {Promise<import('./values.js').Decision | null>}
   */
  async decision(id, fresh) {
    return this.#get(`/api/v1/transfers/${encodeURIComponent(id)}`, fresh);
  }

  /**
   * The same in the order of the ids, at most 4,096.
   * @param {string[]} ids
   * @param {Fresh} [fresh]
   * @returns {Promise<(import('./values.js').Decision | null)[]>}
   */
  async decisions(ids, fresh) {
    return (await this.#find('/api/v1/transfers/lookup', ids, fresh)).transfers;
  }

  /**
   * What was decided about an id; `null`: nothing when this was called. A request under way may decide it yet.
   * @param {string} id
   * @param {Fresh & { of?: 'event' | 'account' }} [fresh] `of`: what the id is of.
   * @returns {Promise<import('./values.js').Status | null>}
   */
  async status(id, { of = 'event', ...fresh } = {}) {
    return this.#get(`/api/v1/status/${encodeURIComponent(id)}?of=${of}`, fresh);
  }

  /**
   * A page of a partition's log. `next` is where the next page begins; everything below `durable` is durable.
   * @param {number} partition
   * @param {Fresh & { from?: bigint, limit?: number }} [page] At most 1,000 records.
   * @returns {Promise<{ records: import('./values.js').LogRecord[], next: bigint, durable: bigint }>}
   */
  async log(partition, { from = 0n, limit = 100, ...fresh } = {}) {
    const page = await this.#get(`/api/v1/log/${partition}?from=${from}&limit=${limit}`, fresh);
    return { ...page, next: BigInt(page.next) };
  }

  /**
   * A partition's log as it grows, refusals too. A connection that is lost is made again, and goes on where it was: nothing
   * is left out and nothing repeated. It ends when the loop is left, or by `signal`.
   * @param {number} partition
   * @param {{ from?: bigint, signal?: AbortSignal }} [options] Without `from`: what comes from now on.
   * @returns {AsyncGenerator<import('./values.js').LogRecord, void, void>}
   */
  async *follow(partition, { from, signal } = {}) {
    // Where it is now, so that nothing is left out if the first connection is lost before it has brought anything.
    const begin = from ?? (await this.log(partition, { from: OFFSET_MAX, limit: 1, signal })).durable;
    yield* follow(this.#nodes, partition, begin, signal);
  }

  /**
   * Nodes, leaders and troubles.
   * @param {Call} [call]
   * @returns {Promise<import('./values.js').Cluster>}
   */
  async cluster({ signal } = {}) {
    return (await this.#nodes.ask({ method: 'GET', path: '/api/v1/cluster', signal })).body;
  }

  /**
   * @param {string} path
   * @param {{ id?: unknown }} event
   * @param {Call} [call]
   * @returns {Promise<import('./values.js').SubmittedOne>}
   */
  async #one(path, event, { signal } = {}) {
    requireId(event);
    const { body, tokens } = await this.#nodes.ask({ method: 'POST', path, body: given(event), isWrite: true, signal });
    return { ...outcomeOf(body), tokens };
  }

  /**
   * @param {string} path
   * @param {Fresh} [fresh]
   * @returns {Promise<any>}
   */
  async #get(path, fresh) {
    const { headers, signal } = reading(fresh);
    return shown((await this.#nodes.ask({ method: 'GET', path, headers, signal })).body);
  }

  /**
   * @param {string} path
   * @param {string[]} ids
   * @param {Fresh} [fresh]
   * @returns {Promise<any>}
   */
  async #find(path, ids, fresh) {
    const { headers, signal } = reading(fresh);
    return shown((await this.#nodes.ask({ method: 'POST', path, body: given({ ids }), headers, signal })).body);
  }
}

/**
 * The headers of a read.
 * @param {Fresh} [fresh]
 */
function reading({ tokens = [], read, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (tokens.length > 0) headers['walengine-token'] = tokens.join(',');
  if (read) headers['walengine-read'] = read;
  return { headers, signal };
}
