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
    /**
     * @param {string | string[]} [servers] Addresses of HTTP of one or more nodes.
     * @param {Options} [options]
     */
    constructor(servers?: string | string[], { tls, timeout }?: Options);
    /** Ends its connections. */
    close(): Promise<void>;
    /**
     * Creates an account. One that is there with the same fields is a repeat.
     * @param {import('./values.js').NewAccount} account
     * @param {Call} [call]
     */
    createAccount(account: import("./values.js").NewAccount, call?: Call): Promise<import("./values.js").SubmittedOne>;
    /**
     * Submits a transfer, or the end of a pending one. A refusal is an outcome, and not an error.
     * @param {import('./values.js').NewTransfer} transfer
     * @param {Call} [call]
     */
    transfer(transfer: import("./values.js").NewTransfer, call?: Call): Promise<import("./values.js").SubmittedOne>;
    /**
     * Submits a batch, at most 8,190 events. Those that are `linked` to the next succeed or fail together with it.
     * @param {import('./values.js').NewEvent[]} events
     * @param {Call} [call]
     * @returns {Promise<import('./values.js').Submitted>}
     */
    submit(events: import("./values.js").NewEvent[], { signal }?: Call): Promise<import("./values.js").Submitted>;
    /**
     * An account; `null`: there is none.
     * @param {string} id UUID, number or any other text.
     * @param {Fresh} [fresh]
     * @returns {Promise<import('./values.js').Account | null>}
     */
    account(id: string, fresh?: Fresh): Promise<import("./values.js").Account | null>;
    /**
     * Accounts in the order of their ids, at most 4,096; `null`: there is none.
     * @param {string[]} ids
     * @param {Fresh} [fresh]
     * @returns {Promise<(import('./values.js').Account | null)[]>}
     */
    accounts(ids: string[], fresh?: Fresh): Promise<(import("./values.js").Account | null)[]>;
    /**
     * Every account of a partition, in the order in which they were created.
     * @param {number} [partition]
     * @param {Fresh} [fresh]
     * @returns {AsyncGenerator<import('./values.js').Account, void, void>}
     */
    listAccounts(partition?: number, fresh?: Fresh): AsyncGenerator<import("./values.js").Account, void, void>;
    /**
     * A transfer, guard or close, and its verdict; `null`: nothing was decided about the id.
     * @param {string} id
     * @param {Fresh} [fresh]
     * @returns {Promise<import('./values.js').Decision | null>}
     */
    decision(id: string, fresh?: Fresh): Promise<import("./values.js").Decision | null>;
    /**
     * The same in the order of the ids, at most 4,096.
     * @param {string[]} ids
     * @param {Fresh} [fresh]
     * @returns {Promise<(import('./values.js').Decision | null)[]>}
     */
    decisions(ids: string[], fresh?: Fresh): Promise<(import("./values.js").Decision | null)[]>;
    /**
     * What was decided about an id; `null`: nothing when this was called. A request under way may decide it yet.
     * @param {string} id
     * @param {Fresh & { of?: 'event' | 'account' }} [fresh] `of`: what the id is of.
     * @returns {Promise<import('./values.js').Status | null>}
     */
    status(id: string, { of, ...fresh }?: Fresh & {
        of?: "event" | "account";
    }): Promise<import("./values.js").Status | null>;
    /**
     * A page of a partition's log. `next` is where the next page begins; everything below `durable` is durable.
     * @param {number} partition
     * @param {Fresh & { from?: bigint, limit?: number }} [page] At most 1,000 records.
     * @returns {Promise<{ records: import('./values.js').LogRecord[], next: bigint, durable: bigint }>}
     */
    log(partition: number, { from, limit, ...fresh }?: Fresh & {
        from?: bigint;
        limit?: number;
    }): Promise<{
        records: import("./values.js").LogRecord[];
        next: bigint;
        durable: bigint;
    }>;
    /**
     * A partition's log as it grows, refusals too. A connection that is lost is made again, and goes on where it was: nothing
     * is left out and nothing repeated. It ends when the loop is left, or by `signal`.
     * @param {number} partition
     * @param {{ from?: bigint, signal?: AbortSignal }} [options] Without `from`: what comes from now on.
     * @returns {AsyncGenerator<import('./values.js').LogRecord, void, void>}
     */
    follow(partition: number, { from, signal }?: {
        from?: bigint;
        signal?: AbortSignal;
    }): AsyncGenerator<import("./values.js").LogRecord, void, void>;
    /**
     * Nodes, leaders and troubles.
     * @param {Call} [call]
     * @returns {Promise<import('./values.js').Cluster>}
     */
    cluster({ signal }?: Call): Promise<import("./values.js").Cluster>;
    #private;
}
/**
 * How a client finds its cluster.
 */
export type Options = {
    /**
     * Directory of a certificate as `walengine cert` makes it, or its contents.
     */
    tls?: import("./http.js").Tls | undefined;
    /**
     * Deadline of every call in milliseconds, tries included.
     */
    timeout?: number | undefined;
};
/**
 * How fresh a read must be.
 */
export type Fresh = {
    /**
     * Writes that the answer must include, on whatever node.
     */
    tokens?: string[] | undefined;
    /**
     * Which nodes answer.
     */
    read?: "any" | "leader" | "linearizable" | undefined;
    /**
     * Gives the call up.
     */
    signal?: AbortSignal | undefined;
};
export type Call = {
    signal?: AbortSignal;
};
