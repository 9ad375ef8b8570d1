/**
 * The records of a partition from an offset on, none left out and none repeated, until the caller stops.
 * @param {import('./http.js').Nodes} nodes
 * @param {number} partition
 * @param {bigint} from
 * @param {AbortSignal} [signal] Ends it.
 * @returns {AsyncGenerator<import('./values.js').LogRecord, void, void>}
 * @throws {RequestRefused} The server refuses, and not only for now.
 * @throws {BadAnswer} An event is larger than any.
 */
export function follow(nodes: import("./http.js").Nodes, partition: number, from: bigint, signal?: AbortSignal): AsyncGenerator<import("./values.js").LogRecord, void, void>;
