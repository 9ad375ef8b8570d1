/** A partition's log as it grows: server-sent events, which go on where they were after a connection is lost. */

import { setTimeout as sleep } from 'node:timers/promises';
import { ParseError } from 'eventsource-parser';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { BadAnswer, RequestRefused } from './errors.js';
import { EVENT_LETTERS_MAX, FIRST_PAUSE_MS, LAST_PAUSE_MS } from './limits.js';
import { shown } from './values.js';

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
export async function* follow(nodes, partition, from, signal) {
  const stopped = new AbortController();
  const ends = signal ? AbortSignal.any([signal, stopped.signal]) : stopped.signal;
  let pause = FIRST_PAUSE_MS;
  try {
    while (!ends.aborted) {
      try {
        for await (const record of connection(nodes, partition, from, ends)) {
          pause = FIRST_PAUSE_MS;
          from = record.offset + 1n;
          yield record;
        }
      } catch (error) {
        if (error instanceof RequestRefused) throw error;
        if (error instanceof ParseError) throw new BadAnswer(error.message, { cause: error }); // it is past its limit
        // A connection is lost: it is made again.
      }
      nodes.turn();
      await sleep(pause, undefined, { signal: ends }).catch(() => {});
      pause = Math.min(2 * pause, LAST_PAUSE_MS);
    }
  } finally {
    stopped.abort(); // the caller has left the loop
  }
}

/**
 * The records of one connection.
 * @param {import('./http.js').Nodes} nodes
 * @param {number} partition
 * @param {bigint} from
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<import('./values.js').LogRecord, void, void>}
 */
async function* connection(nodes, partition, from, signal) {
  const path = `/api/v1/log/${partition}/stream?from=${from}`;
  const response = await nodes.stream({ method: 'GET', path, headers: { accept: 'text/event-stream' } }, signal);
  if (!response.ok || !response.body) {
    /** @type {any} */
    const problem = await response.json().catch(() => undefined);
    if (response.status >= 500 || response.status === 429) return; // for now
    throw new RequestRefused(problem?.detail ?? `status ${response.status}`, { problem });
  }
  const parser = new EventSourceParserStream({ maxBufferSize: EVENT_LETTERS_MAX });
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(parser);
  for await (const event of events) {
    if (event.event === 'record') yield shown(JSON.parse(event.data));
  }
}
