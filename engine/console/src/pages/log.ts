// The log as it grows, refused events, and reservations by age.

import { Failed, get, type LogRecord } from "../api";
import { badge, type Child, h, note, replace, table } from "../dom";
import { amount, count, span, time, unit } from "../format";
import { live } from "../live";
import { accountLink, transferLink } from "../names";
import { isRefused, sentence, verdict } from "../words";
import { failure } from "./find";

/** Rows that are shown. */
const ROWS_MAX = 100;
/** Records a second that a page follows one by one; beyond, it looks at the newest every other second. */
const FOLLOWED_MAX = 300;
/** Milliseconds between two looks. */
const LOOK_EVERY = 2_000;
/** Milliseconds within which what comes is shown together. */
const SHOW_EVERY = 250;

interface Newest {
  records: LogRecord[];
  next?: string;
}

const COLUMNS = [{ head: "Time" }, { head: "What" }, { head: "Verdict" }, { head: "Offset", number: true, wide: true }];

function rows(records: LogRecord[]): HTMLElement {
  const cells = records.map((record) => [
    h("time", { datetime: record.time ?? "", title: record.time ?? "" }, time(record.time)),
    sentence(record, record.offset),
    verdict(record.verdict),
    record.id ? h("a", { href: `#/transfer/${record.id}`, "data-key": `o${record.offset}` }, count(record.offset)) : count(record.offset),
  ]);
  return table("Records, newest first", COLUMNS, cells, records.map((record) => (isRefused(record.verdict) ? "marked" : "")));
}

/** Which partition is shown, where there are several. */
export function partitionTabs(page: string, chosen: number): HTMLElement | null {
  const all = live.cluster?.partitions ?? [];
  if (all.length < 2) return null;
  const tab = (partition: number) =>
    h("a", { href: `#/${page}/${partition}`, "aria-current": partition === chosen ? "true" : null }, `Partition ${partition}`);
  return h("nav", { class: "tabs", "aria-label": "Partition" }, all.map(({ partition }) => tab(partition)));
}

export function log(root: HTMLElement, partition: number): () => void {
  const state = h("span", { role: "status" });
  const body = h("div", {}, note("Looking …"));
  let held = false;
  const hold = h("button", { type: "button", "aria-pressed": "false", click: () => press() }, "Hold");
  root.append(h("h1", {}, "Log"), partitionTabs("log", partition) ?? "", h("p", { class: "bar" }, hold, state), body);

  let records: LogRecord[] = [];
  let source: EventSource | null = null;
  let timer: number | undefined;
  let isDirty = false;
  let came = 0;
  let since = performance.now();

  const show = (): void => {
    if (isDirty && !held) replace(body, records.length === 0 ? note("The log is empty: nothing was ever sent to this partition.") : rows(records));
    isDirty = false;
  };
  const take = (record: LogRecord): void => {
    records = [record, ...records].slice(0, ROWS_MAX);
    isDirty = true;
    came += 1;
  };
  const sample = async (): Promise<void> => {
    try {
      records = (await get<Newest>(`/api/v1/log/${partition}/newest?limit=50`)).records;
      isDirty = true;
    } catch (error) {
      replace(body, failure(error));
    }
  };
  const press = (): void => {
    held = !held;
    hold.setAttribute("aria-pressed", String(held));
    hold.textContent = held ? "Go on" : "Hold";
    isDirty = true;
    show();
  };
  const follow = (from: string): void => {
    source = new EventSource(`/api/v1/log/${partition}/stream?from=${from}`);
    source.addEventListener("record", (event) => take(JSON.parse((event as MessageEvent<string>).data) as LogRecord));
    source.onopen = () => replace(state, badge("good", "live"));
    source.onerror = () => replace(state, badge("warn", "no stream; trying again"));
  };
  const tick = (): void => {
    show();
    const passed = performance.now() - since;
    if (passed < LOOK_EVERY) return;
    const rate = (came * 1000) / passed;
    [came, since] = [0, performance.now()];
    if (document.hidden) return;
    if (source && rate > FOLLOWED_MAX) {
      source.close();
      source = null;
      replace(state, badge("idle", "more than can be read: the newest 50, every 2 s"));
    }
    if (!source && !held) void sample();
  };
  void (async () => {
    await sample();
    if (timer === -1) return;
    show();
    const newest = records[0];
    if (live.rights?.read_log !== false) follow(newest ? String(BigInt(newest.offset) + 1n) : "0");
    timer = window.setInterval(tick, SHOW_EVERY);
  })();
  return () => {
    source?.close();
    window.clearInterval(timer);
    timer = -1;
  };
}

export function refused(root: HTMLElement, partition: number): () => void {
  const body = h("div", { class: "stack" }, note("Looking …"));
  let found: LogRecord[] = [];
  let ended = false;
  root.append(
    h("h1", {}, "Refused"),
    h("p", { class: "hint" }, "What a ledger's rules have refused, newest first. A refusal is a verdict like any other: it moves nothing, and stays."),
    partitionTabs("refused", partition) ?? "",
    body,
  );
  const more = async (before?: string): Promise<void> => {
    try {
      const page = await get<Newest>(`/api/v1/log/${partition}/newest?limit=50&refused=true${before ? `&before=${before}` : ""}`);
      if (ended) return;
      found = [...found, ...page.records];
      const next = page.next;
      const go = next && h("p", {}, h("button", { type: "button", click: () => void more(next), "data-key": "older" }, `Look further back than offset ${count(next)}`));
      replace(body, found.length > 0 ? rows(found) : note(next ? "Nothing was refused in the newest part of the log." : "Nothing was ever refused here."), go || "");
    } catch (error) {
      if (!ended) replace(body, failure(error));
    }
  };
  void more();
  return () => void (ended = true);
}

interface Reservation {
  id: string;
  time?: string;
  expires?: string;
  debit_account: string;
  credit_account: string;
  amount: string;
  ledger: number;
  in_doubt: boolean;
}
interface Reservations {
  reservations: Reservation[];
  found: number;
  complete: boolean;
}

/** Seconds of age after which a reservation is marked. */
const OLD_AFTER = 7 * 86_400;

function ends(one: Reservation): Child {
  if (one.in_doubt) return badge("warn", "waits for another partition");
  if (!one.expires) return "by hand only";
  const left = (Date.parse(one.expires) - Date.now()) / 1000;
  return left > 0 ? `in ${span(left)}` : badge("warn", "due now");
}

export function reservations(root: HTMLElement, partition: number): () => void {
  const body = h("div", { class: "stack" }, note("Looking …"));
  let ended = false;
  root.append(h("h1", {}, "Reservations"), h("p", { class: "hint" }, "Money that is held and neither posted, released nor expired, oldest first."), partitionTabs("reservations", partition) ?? "", body);
  const look = async (): Promise<void> => {
    try {
      const page = await get<Reservations>(`/api/v1/reservations?partition=${partition}`);
      if (ended) return;
      const cells = page.reservations.map((one) => {
        const age = one.time ? (Date.now() - Date.parse(one.time)) / 1000 : 0;
        return [
          age > OLD_AFTER ? badge("warn", span(age)) : span(age),
          h("span", {}, amount(one.amount, one.ledger), " ", h("span", { class: "hint" }, unit(one.ledger))),
          accountLink(one.debit_account, one.id),
          accountLink(one.credit_account, one.id),
          ends(one),
          transferLink(one.id),
        ];
      });
      const columns = [
        { head: "Age", number: true }, { head: "Holds", number: true }, { head: "From" }, { head: "To" }, { head: "Ends" }, { head: "Reservation", wide: true },
      ];
      const counted = live.reservations.get(partition);
      replace(
        body,
        page.found > 0 ? table("Open reservations, oldest first", columns, cells) : note("No money is held."),
        h("p", { class: "hint" }, `${count(page.found)} found${counted === undefined ? "" : `, ${count(counted)} open by this node's count`}. `,
          page.found > page.reservations.length && `The oldest ${count(page.reservations.length)} are shown. `,
          !page.complete && "There are too many to look at all of them: walengine.pending_transfers in PostgreSQL has all."),
      );
    } catch (error) {
      if (!ended && !(error instanceof Failed && error.isUnanswered)) replace(body, failure(error));
    }
  };
  void look();
  const timer = window.setInterval(() => document.hidden || void look(), 10_000);
  return () => {
    ended = true;
    window.clearInterval(timer);
  };
}
