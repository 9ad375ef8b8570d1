// "Where is my money?": an account or a transfer, by name or id.

import { type Account, type Decision, Failed, get } from "../api";
import { type Child, badge, h, note, replace, table } from "../dom";
import { amount, count, money, time, unit } from "../format";
import { hasNames } from "../live";
import { accountLink, label, remember, transferLink } from "../names";
import { isRefused, meaning, sentence, verdict } from "../words";

async function missing<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Failed && error.isMissing) return null;
    throw error;
  }
}

export const failure = (error: unknown): HTMLElement => {
  if (error instanceof Failed && error.isForbidden) return note(["You have no right to see this. ", error.message], "bad");
  return note(error instanceof Error ? error.message : String(error), "bad");
};

const path = (text: string): string => encodeURIComponent(text);

/** What a text may stand for: an account's id or name, or a transfer's id. */
export function find(root: HTMLElement, text: string): () => void {
  const body = h("div", { class: "stack" }, note("Looking …"));
  root.append(h("h1", {}, "Find: ", h("q", {}, text)), body);
  void (async () => {
    try {
      const byName = hasNames ? get<{ accounts: Account[] }>(`/api/v1/accounts?name=${path(text)}`) : Promise.resolve({ accounts: [] });
      const [account, transfer, named] = await Promise.all([
        missing(get<Account>(`/api/v1/accounts/${path(text)}`)),
        missing(get<Decision>(`/api/v1/transfers/${path(text)}`)),
        byName.catch(() => ({ accounts: [] as Account[] })),
      ]);
      const accounts = [account, ...named.accounts].filter((one): one is Account => one !== null);
      const unique = [...new Map(accounts.map((one) => [one.id, one])).values()];
      unique.forEach(remember);
      const event = transfer?.event?.id ?? text;
      if (unique.length === 1 && !transfer) return location.replace(`#/account/${path(unique[0]!.id)}`);
      if (unique.length === 0 && transfer) return location.replace(`#/transfer/${path(event)}`);
      if (unique.length === 0)
        return replace(body, note("Nothing has this name or id. A short id (with …) stands for no account: give it whole, or the name."));
      replace(
        body,
        unique.length > 1 && note(`${unique.length} accounts have this name.`),
        unique.map((one) => h("p", {}, "Account ", accountLink(one.id), ` · ${unit(one.ledger)} · `, h("span", { class: "id" }, one.id))),
        transfer && h("p", {}, "Transfer ", transferLink(event)),
      );
    } catch (error) {
      replace(body, failure(error));
    }
  })();
  return () => {};
}

interface Row {
  offset: string;
  time?: string;
  kind: string;
  id?: string;
  other_account: string;
  debit: string;
  credit: string;
  balance: string;
}
interface Statement {
  partition: number;
  rows: Row[];
  covered_from: string;
  next?: string;
}

function facts(list: [string, Child][]): HTMLElement {
  return h("dl", { class: "facts" }, list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function balances(account: Account): HTMLElement {
  const [debits, credits] = [BigInt(account.debits_posted), BigInt(account.credits_posted)];
  const show = (value: string | bigint) => amount(value, account.ledger);
  return h(
    "div",
    { class: "tiles" },
    h("section", { class: "tile" }, h("h2", {}, "Balance"), h("p", { class: "figure" }, money(credits - debits, account.ledger)), h("p", { class: "hint" }, `in ${show(credits)}, out ${show(debits)}`)),
    h("section", { class: "tile" }, h("h2", {}, "Available"), h("p", { class: "figure" }, money(credits - debits - BigInt(account.debits_pending), account.ledger)), h("p", { class: "hint" }, "balance without what is reserved out")),
    h("section", { class: "tile" }, h("h2", {}, "Reserved"), h("p", { class: "figure" }, `${show(account.debits_pending)} out`), h("p", { class: "hint" }, `${show(account.credits_pending)} in`)),
  );
}

export function account(root: HTMLElement, id: string): () => void {
  const body = h("div", { class: "stack" }, note("Looking …"));
  root.append(body);
  const rows: Row[] = [];
  let ended = false;
  void (async () => {
    try {
      const found = await get<Account>(`/api/v1/accounts/${path(id)}`);
      if (ended) return;
      remember(found);
      const statement = h("div", { class: "stack" }, note("Looking through the log …"));
      replace(
        body,
        h("h1", {}, label(found.id), found.flags.includes("closed") ? [" ", badge("warn", "closed")] : ""),
        balances(found),
        facts([
          ["Id", h("span", { class: "id whole" }, found.id)],
          ["Ledger", unit(found.ledger)],
          ["Code", found.code],
          ["Rules", found.flags.length === 0 ? "none" : found.flags.map((flag) => flag.replaceAll("_", " ")).join(", ")],
          ["Opened", time(found.created)],
          ["Changes", count(found.version)],
        ]),
        h("p", {}, h("a", { class: "button", href: `#/pay/${path(found.id)}` }, "Pay from here")),
        h("h2", {}, "Statement"),
        statement,
      );
      const more = async (before?: string): Promise<void> => {
        try {
          const page = await get<Statement>(`/api/v1/accounts/${path(found.id)}/statement?limit=50${before ? `&before=${before}` : ""}`);
          if (ended) return;
          rows.push(...page.rows);
          replace(statement, shown(rows, found.ledger), page.next ? older(() => void more(page.next), page) : "");
        } catch (error) {
          if (!ended) replace(statement, failure(error));
        }
      };
      await more();
    } catch (error) {
      const isMissing = error instanceof Failed && error.isMissing;
      if (!ended) replace(body, h("h1", {}, "Account"), isMissing ? note("There is no such account.") : failure(error));
    }
  })();
  return () => void (ended = true);
}

function older(go: () => void, page: Statement): HTMLElement {
  const text = page.rows.length === 0 ? `Nothing since offset ${count(page.covered_from)}: look further back` : "Older rows";
  return h("p", {}, h("button", { type: "button", click: go, "data-key": "older" }, text));
}

function shown(rows: Row[], ledger: number): HTMLElement {
  if (rows.length === 0) return note("Nothing has moved money here yet. Reservations move nothing.");
  const cells = rows.map((row, at) => [
    h("time", { datetime: row.time ?? "", title: row.time ?? "" }, time(row.time)),
    row.kind,
    accountLink(row.other_account, `${at}`),
    row.debit === "0" ? "" : amount(row.debit, ledger),
    row.credit === "0" ? "" : amount(row.credit, ledger),
    h("strong", {}, amount(row.balance, ledger)),
    row.id ? transferLink(row.id, `${at}`) : "",
  ]);
  const columns = [
    { head: "Time" }, { head: "Kind", wide: true }, { head: "With" }, { head: "Out", number: true },
    { head: "In", number: true }, { head: `Balance, ${unit(ledger)}`, number: true }, { head: "Transfer", wide: true },
  ];
  return table("Statement, newest first", columns, cells);
}

export function transfer(root: HTMLElement, id: string): () => void {
  const body = h("div", { class: "stack" }, note("Looking …"));
  root.append(h("h1", {}, "Transfer"), body);
  void (async () => {
    try {
      const found = await get<Decision>(`/api/v1/transfers/${path(id)}`);
      const event = found.event;
      replace(
        body,
        h("p", { class: "lead" }, sentence(found, "")),
        h("p", {}, verdict(found.verdict)),
        isRefused(found.verdict) && note(`It has moved nothing, and never will: ${meaning(found.verdict)}. Sent again with the same id it gets the same answer.`),
        facts([
          ["Id", h("span", { class: "id whole" }, event?.id ?? id)],
          ["Amount", event?.amount ? money(found.effective?.amount ?? event.amount, event.ledger ?? 0) : "–"],
          ["Decided", `${time(found.time)} (${found.time ?? ""})`],
          ["In the log", `partition ${found.partition}, offset ${count(found.offset)}`],
          ["Code", event?.code ?? "–"],
          ["Flags", (event?.flags ?? []).join(", ").replaceAll("_", " ") || "none"],
        ]),
      );
    } catch (error) {
      const isMissing = error instanceof Failed && error.isMissing;
      replace(body, isMissing ? note("Nothing was ever decided about this id: no money has moved under it.") : failure(error));
    }
  })();
  return () => {};
}
