/** The client of walengine for Node, by its HTTP API. README.md has a first look. */

export { Client } from './client.js';
export {
  BadAnswer, DeadlineExceeded, NothingChanged, OutcomeUnknown, RequestRefused, Unreachable, WalengineError,
} from './errors.js';

/** @typedef {import('./values.js').NewAccount} NewAccount */
/** @typedef {import('./values.js').NewTransfer} NewTransfer */
/** @typedef {import('./values.js').NewGuard} NewGuard */
/** @typedef {import('./values.js').NewClose} NewClose */
/** @typedef {import('./values.js').NewEvent} NewEvent */
/** @typedef {import('./values.js').Account} Account */
/** @typedef {import('./values.js').Decision} Decision */
/** @typedef {import('./values.js').LogRecord} LogRecord */
/** @typedef {import('./values.js').Status} Status */
/** @typedef {import('./values.js').Cluster} Cluster */
/** @typedef {import('./values.js').Outcome} Outcome */
/** @typedef {import('./values.js').Submitted} Submitted */
/** @typedef {import('./values.js').SubmittedOne} SubmittedOne */
