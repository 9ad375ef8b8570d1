/** The nodes of a cluster, one of which is asked. */
export class Nodes {
    /**
     * @param {string[]} servers Addresses such as `http://127.0.0.1:7480`.
     * @param {{ tls?: Tls, timeout: number }} options
     */
    constructor(servers: string[], { tls, timeout }: {
        tls?: Tls;
        timeout: number;
    });
    /** Ends its connections. */
    close(): Promise<void>;
    /** The next node is asked from now on. */
    turn(): void;
    /**
     * Asks once.
     * @param {Ask} ask
     * @param {AbortSignal} signal
     */
    once(ask: Ask, signal: AbortSignal): Promise<import("undici").Response>;
    /**
     * Asks once, for an answer that has no end.
     * @param {Ask} ask
     * @param {AbortSignal} signal
     */
    stream(ask: Ask, signal: AbortSignal): Promise<import("undici").Response>;
    /**
     * Asks until there is an answer.
     * @param {Ask} ask
     * @returns {Promise<Answer>} An answer below 400, or one with a verdict, or 404.
     * @throws {import('./errors.js').WalengineError}
     */
    ask(ask: Ask): Promise<Answer>;
    #private;
}
/**
 * Certificates: a directory as `walengine cert` makes it, or what is in it.
 */
export type Tls = string | {
    ca: string;
    cert: string;
    key: string;
};
/**
 * One request.
 */
export type Ask = {
    method: "GET" | "POST";
    path: string;
    /**
     * JSON.
     */
    body?: string | undefined;
    /**
     * It may change something.
     */
    isWrite?: boolean | undefined;
    headers?: Record<string, string> | undefined;
    /**
     * The caller's.
     */
    signal?: AbortSignal | undefined;
};
export type Answer = {
    status: number;
    body: any;
    tokens: string[];
};
