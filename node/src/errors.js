/**
 * Errors: each says whether anything may have happened, by its class and by `mayHaveChanged`.
 *
 * A refusal of an event is no error but its verdict.
 */

/** @typedef {import('../types/openapi.d.ts').components['schemas']['Problem']} Problem */

/**
 * What is known of a failure.
 * @typedef {object} Known
 * @property {unknown} [cause] What it came from.
 * @property {Problem} [problem] What the server answered (RFC 9457).
 * @property {number} [retryAfter] When to try again, in seconds; 0: no hint.
 */

/** A call has no answer. Either {@link NothingChanged} or {@link OutcomeUnknown}. */
export class WalengineError extends Error {
  /**
   * @param {string} message What happened.
   * @param {Known} [known] What else is known.
   */
  constructor(message, { cause, problem, retryAfter = 0 } = {}) {
    super(message, { cause });
    this.name = new.target.name;
    /** What the server answered, if it did. */
    this.problem = problem;
    /** The kind of the problem, for programs. */
    this.code = problem?.code;
    /** When to try again, in seconds; 0: no hint. */
    this.retryAfter = retryAfter;
  }

  /** Whether a write may have taken effect all the same. */
  get mayHaveChanged() {
    return true;
  }
}

/**
 * A write may have taken effect, or a part of its events. Ask for the verdicts of its ids, or send the same events
 * again: each id has one verdict, so that is safe.
 */
export class OutcomeUnknown extends WalengineError {}

/** Nothing was changed: it was not sent, or refused before it was taken, or only asked for something. */
export class NothingChanged extends WalengineError {
  get mayHaveChanged() {
    return false;
  }
}

/** No server answers there, or none whose certificate is believed. */
export class Unreachable extends NothingChanged {}

/** A server refused the request: `problem` and `code` say why. */
export class RequestRefused extends NothingChanged {}

/** There was no answer in time, and nothing was sent that could have changed anything. */
export class DeadlineExceeded extends NothingChanged {}

/** The answer to a read makes no sense: another program listens there, or the server is at fault. */
export class BadAnswer extends NothingChanged {}
