/** What is held in memory at most, and for how long something is waited for. */
/** Largest answer in bytes: 4,096 events that were looked up, or the outcomes of 8,190, are a few MiB. */
export const ANSWER_BYTES_MAX: number;
/** Largest event of a stream of the log in letters: an opaque record of 1 MiB, in base64, and what stands beside it. */
export const EVENT_LETTERS_MAX: number;
/** How long a connection may bring nothing, in milliseconds: a stream says every ten seconds that it lives. */
export const SILENT_MS_MAX: 30000;
/** Pause before a second try in milliseconds; it doubles from try to try. */
export const FIRST_PAUSE_MS: 50;
/** Longest pause in milliseconds. */
export const LAST_PAUSE_MS: 2000;
