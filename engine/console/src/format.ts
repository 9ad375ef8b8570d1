// Amounts, ids and times as people read them. Amounts have 128 bits: they are BigInt or text, and never Number.

export interface Ledger {
  ledger: number;
  name: string;
  scale: number;
}

const ledgers = new Map<number, Ledger>();

export function describeLedgers(list: Ledger[]): void {
  ledgers.clear();
  for (const one of list) ledgers.set(one.ledger, one);
}

export const ledgerOf = (ledger: number): Ledger | undefined => ledgers.get(ledger);
export const knownLedgers = (): Ledger[] => [...ledgers.values()].sort((a, b) => a.ledger - b.ledger);

const grouped = (digits: string): string => digits.replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** An amount in minor units, with the decimals of its ledger and without its name. */
export function amount(minor: string | bigint, ledger: number): string {
  const value = BigInt(minor);
  const sign = value < 0n ? "\u2212" : "";
  const digits = (value < 0n ? -value : value).toString();
  const scale = ledgers.get(ledger)?.scale ?? 0;
  if (scale === 0) return sign + grouped(digits);
  const whole = digits.padStart(scale + 1, "0");
  return `${sign}${grouped(whole.slice(0, -scale))}.${whole.slice(-scale)}`;
}

/** The name of a ledger; its number, where it was not described. */
export const unit = (ledger: number): string => ledgers.get(ledger)?.name ?? `ledger ${ledger}`;

export const money = (minor: string | bigint, ledger: number): string =>
  `${amount(minor, ledger)} ${ledgers.get(ledger)?.name ?? ""}`.trim();

/** What a person has written, in minor units; null if it is no amount of the ledger. */
export function minorUnits(text: string, ledger: number): bigint | null {
  const scale = ledgers.get(ledger)?.scale ?? 0;
  const found = /^(\d{1,39})(?:\.(\d+))?$/.exec(text.trim().replace(/[\s\u202f_]/g, ""));
  if (!found) return null;
  const fraction = found[2] ?? "";
  if (fraction.length > scale) return null;
  const value = BigInt(found[1] + fraction.padEnd(scale, "0"));
  return value > 0n && value < 1n << 128n ? value : null;
}

/** An id of an account or transfer, short. Those of book 0 begin with zeros, which say nothing. */
export function shortId(id: string): string {
  if (!/^[0-9a-f]{8}-/.test(id)) return id;
  return id.startsWith("00000000-") ? `…${id.slice(-8)}` : `${id.slice(0, 4)}…${id.slice(-8)}`;
}

/** A node's id, short where it is a long number. */
export const shortNode = (node: string): string => (node.length > 6 ? `…${node.slice(-5)}` : node);

const two = (number: number): string => String(number).padStart(2, "0");

/** A log time by this machine's clock and zone; the day only if it is another one. */
export function time(text: string | undefined): string {
  if (!text) return "–";
  const at = new Date(text);
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return at.toDateString() === new Date().toDateString() ? clock : `${day(at)} ${clock}`;
}

export const day = (at: Date): string => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;

/** A span in the largest two units that say something. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** A rate, size or count that nobody reckons with. */
export function rough(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  if (Number.isInteger(value) && value < 10_000) return grouped(String(value));
  if (value < 10) return value.toFixed(1);
  if (value < 10_000) return grouped(String(Math.round(value)));
  if (value < 1e6) return `${(value / 1e3).toFixed(1)}k`;
  return `${(value / 1e6).toFixed(2)}M`;
}

export const count = (text: string | number | bigint): string => grouped(String(text));

export function bytes(text: string): string {
  const value = Number(text);
  if (value >= 1 << 30) return `${(value / 2 ** 30).toFixed(1)} GiB`;
  return `${(value / 2 ** 20).toFixed(0)} MiB`;
}

export function millis(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(1)} s`;
}
