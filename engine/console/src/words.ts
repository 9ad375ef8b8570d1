// Records and verdicts in words.

import type { Decision, LogRecord, Transfer } from "./api";
import { type Child, badge } from "./dom";
import { money } from "./format";
import { verdicts } from "./live";
import { accountLink, transferLink } from "./names";

export const isRefused = (verdict: string): boolean => verdict !== "ok" && verdict !== "in_doubt";

export const meaning = (verdict: string): string => verdicts.get(verdict) ?? verdict.replaceAll("_", " ");

export function verdict(name: string): HTMLElement {
  if (name === "ok") return badge("good", "accepted");
  if (name === "in_doubt") return badge("warn", "waits for another partition");
  return badge("bad", `refused: ${meaning(name)}`);
}

/** What a transfer is, in one word. */
export function verb(event: Transfer): string {
  const flags = event.flags ?? [];
  if (flags.includes("pending")) return "Reserve";
  if (flags.includes("post_pending")) return "Post";
  if (flags.includes("void_pending")) return "Release";
  return "Pay";
}

const zero = "00000000-0000-0000-0000-000000000000";

function moved(event: Transfer, effective: Decision["effective"], key: string): Child[] {
  const word = verb(event);
  const debit = effective?.debit_account ?? event.debit_account ?? zero;
  const credit = effective?.credit_account ?? event.credit_account ?? zero;
  const sum = effective?.amount ?? event.amount ?? "0";
  const what = sum === "0" && word !== "Pay" ? "" : `${money(sum, effective?.ledger ?? event.ledger ?? 0)} `;
  const sides = debit === zero ? [] : ["from ", accountLink(debit, `${key}d`), " to ", accountLink(credit, `${key}c`)];
  const held = event.pending_id ? [" of reservation ", transferLink(event.pending_id, key)] : [];
  return [`${word} ${what}`, sides, held];
}

/** One record as a sentence. */
export function sentence(record: LogRecord | Decision, key: string): Child[] {
  const event = record.event;
  const kind = "kind" in record ? record.kind : "event";
  const about = "id" in record && record.id ? transferLink(record.id, key) : "";
  if (kind === "expiry") return ["Reservation ", about, " has expired"];
  if (kind === "mail" && "from_partition" in record) return [`Frame from partition ${record.from_partition}`];
  if (kind === "opaque") return ["Record of another use of the log"];
  if (kind === "word" && "decided" in record)
    return ["Word on ", about, `: ${record.decided === "ok" ? "accepted" : meaning(record.decided ?? "")}`];
  const from = kind === "arrival" && "from_partition" in record ? ` (from partition ${record.from_partition})` : "";
  switch (event?.type) {
    case "transfer":
      return [moved(event, record.effective, key), from];
    case "account":
      return ["Open account ", accountLink(event.id, key), from];
    case "guard":
      return ["Condition on account ", accountLink(event.account ?? zero, key), from];
    case "close":
      return [event.reopen ? "Reopen account " : "Close account ", accountLink(event.account ?? zero, key), from];
    default:
      return [`${kind.replaceAll("_", " ")} `, about];
  }
}
