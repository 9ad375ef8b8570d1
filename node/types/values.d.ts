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
export function shown(value: any): any;
/**
 * The body of a request.
 * @param {unknown} value With `bigint`s.
 * @returns {string} JSON.
 */
export function given(value: unknown): string;
/**
 * An outcome as the caller gets it.
 * @param {any} outcome As JSON has it.
 * @returns {Outcome}
 */
export function outcomeOf(outcome: any): Outcome;
/**
 * Refuses an event that could not be sent again safely.
 * @param {{ id?: unknown }} event
 * @throws {TypeError} It has no id. Nothing was sent.
 */
export function requireId(event: {
    id?: unknown;
}): void;
/**
 * A value of an answer, with `bigint` for what is text of digits there.
 */
export type Shown<T> = T extends readonly (infer E)[] ? Shown<E>[] : T extends object ? { [K in keyof T]: K extends BigName ? bigint | Exclude<T[K], string> : Shown<T[K]>; } : T;
/**
 * A value of a request, in which that may be `bigint` or text.
 */
export type Given<T> = { [K in keyof T]: K extends BigName ? bigint | T[K] : T[K]; };
/**
 * An account to create.
 */
export type NewAccount = Given<Omit<Schemas["GivenAccount"], "type">>;
/**
 * A transfer, or the end of a pending one. It has an id, so that it can be sent again.
 */
export type NewTransfer = Given<Omit<Schemas["GivenTransfer"], "type" | "id">> & {
    id: string;
};
/**
 * A condition on an account, in a chain.
 */
export type NewGuard = Given<Omit<Schemas["GivenGuard"], "type">>;
/**
 * An account to close or to reopen.
 */
export type NewClose = Omit<Schemas["GivenClose"], "type">;
/**
 * Any event of a batch; `type` says which it is.
 */
export type NewEvent = (NewAccount & {
    type: "account";
}) | (NewTransfer & {
    type: "transfer";
}) | (NewGuard & {
    type: "guard";
}) | (NewClose & {
    type: "close";
});
/**
 * An account.
 */
export type Account = Shown<Schemas["ShownAccount"]>;
/**
 * An event that was decided.
 */
export type Decision = Shown<Schemas["ShownDecision"]>;
/**
 * A record of the log.
 */
export type LogRecord = Shown<Schemas["Record"]>;
/**
 * What was decided about an id.
 */
export type Status = Shown<Schemas["ShownStatus"]>;
/**
 * Nodes, leaders and troubles, as the API has them.
 */
export type Cluster = Schemas["ShownCluster"];
/**
 * `ok`: it took effect, now or before.
 */
export type Outcome = Shown<Schemas["ShownOutcome"]> & {
    ok: boolean;
};
/**
 * What was decided about a request with one event.
 */
export type SubmittedOne = Outcome & {
    tokens: string[];
};
/**
 * What was decided about a batch, in the order of its events.
 */
export type Submitted = {
    outcomes: Outcome[];
    /**
     * For reads that must include it.
     */
    tokens: string[];
};
export type Schemas = import("../types/openapi.d.ts").components["schemas"];
/**
 * Names of what is `bigint` here. The same for the types and for what converts.
 */
export type BigName = "amount" | "available_to_credit" | "available_to_debit" | "credits_pending" | "credits_posted" | "debits_pending" | "debits_posted" | "durable" | "expected_offset" | "offset" | "user_data_128" | "user_data_64" | "version";
