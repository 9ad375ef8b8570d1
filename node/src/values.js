/**
 * Values as the API has them, and as JavaScript does: numbers of 64 and 128 bits are text in JSON and `bigint` here.
 */

/** @typedef {import('../types/openapi.d.ts').components['schemas']} Schemas */

/**
 * Names of what is `bigint` here. The same for the types and for what converts.
 * @typedef {'amount' | 'available_to_credit' | 'available_to_debit' | 'credits_pending' | 'credits_posted' |
 *   'debits_pending' | 'debits_posted' | 'durable' | 'expected_offset' | 'offset' | 'user_data_128' |
 *   'user_data_64' | 'version'} BigName
 */

/** @type {Record<BigName, true>} */
const BIG = {
  amount: true,
  available_to_credit: true,
  available_to_debit: true,
  credits_pending: true,
  credits_posted: true,
  debits_pending: true,
  debits_posted: true,
  durable: true,
  expected_offset: true,
  offset: true,
  user_data_128: true,
  user_data_64: true,
  version: true,
};

/**
 * A value of an answer, with `bigint` for what is text of digits there.
 * @template T
 * @typedef {T extends readonly (infer E)[] ? Shown<E>[] : T extends object
 *   ? { [K in keyof T]: K extends BigName ? bigint | Exclude<T[K], string> : Shown<T[K]> } : T} Shown
 */

/**
 * A value of a request, in which that may be `bigint` or text.
 * @template T
 * @typedef {{ [K in keyof T]: K extends BigName ? bigint | T[K] : T[K] }} Given
 */

/** @typedef {Given<Omit<Schemas['GivenAccount'], 'type'>>} NewAccount An account to create. */
/**
 * A transfer, or the end of a pending one. It has an id, so that it can be sent again.
 * @typedef {Given<Omit<Schemas['GivenTransfer'], 'type' | 'id'>> & { id: string }} NewTransfer
 */
/** @typedef {Given<Omit<Schemas['GivenGuard'], 'type'>>} NewGuard A condition on an account, in a chain. */
/** @typedef {Omit<Schemas['GivenClose'], 'type'>} NewClose An account to close or to reopen. */
/**
 * Any event of a batch; `type` says which it is.
 * @typedef {(NewAccount & { type: 'account' }) | (NewTransfer & { type: 'transfer' }) |
 *   (NewGuard & { type: 'guard' }) | (NewClose & { type: 'close' })} NewEvent
 */

/** @typedef {Shown<Schemas['ShownAccount']>} Account An account. */
/** @typedef {Shown<Schemas['ShownDecision']>} Decision An event that was decided. */
/** @typedef {Shown<Schemas['Record']>} LogRecord A record of the log. */
/** @typedef {Shown<Schemas['ShownStatus']>} Status What was decided about an id. */
/** @typedef {Schemas['ShownCluster']} Cluster Nodes, leaders and troubles, as the API has them. */
/** @typedef {Shown<Schemas['ShownOutcome']> & { ok: boolean }} Outcome `ok`: it took effect, now or before. */

/**
 * What was decided about a request with one event.
 * @typedef {Outcome & { tokens: string[] }} SubmittedOne
 */
/**
 * What was decided about a batch, in the order of its events.
 * @typedef {object} Submitted
 * @property {Outcome[]} outcomes
 * @property {string[]} tokens For reads that must include it.
 */

/**
 * A value of an answer as the caller gets it.
 * @param {any} value As JSON has it.
 * @returns {any} With `bigint`s.
 */
export function shown(value) {
  if (Array.isArray(value)) return value.map(shown);
  if (value === null || typeof value !== 'object') return value;
  const pairs = Object.entries(value).map(([name, one]) => {
    const isBig = Object.hasOwn(BIG, name) && typeof one === 'string';
    return [name, isBig ? BigInt(one) : shown(one)];
  });
  return Object.fromEntries(pairs);
}

/**
 * The body of a request.
 * @param {unknown} value With `bigint`s.
 * @returns {string} JSON.
 */
export function given(value) {
  return JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? one.toString() : one));
}

/**
 * An outcome as the caller gets it.
 * @param {any} outcome As JSON has it.
 * @returns {Outcome}
 */
export function outcomeOf(outcome) {
  return { ...shown(outcome), ok: outcome.verdict === 'ok' };
}

/**
 * Refuses an event that could not be sent again safely.
 * @param {{ id?: unknown }} event
 * @throws {TypeError} It has no id. Nothing was sent.
 */
export function requireId(event) {
  if (typeof event.id !== 'string' || event.id === '') {
    throw new TypeError('an event has an id, a text: without one it could not be sent again safely');
  }
}
