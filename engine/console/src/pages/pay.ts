// A transfer by hand. Its id is made before it is sent and kept until the answer is known: sent again, it moves
// nothing twice, whatever was lost on the way.

import { type Account, Failed, get, post } from "../api";
import { badge, type Child, h, note, replace } from "../dom";
import { knownLedgers, minorUnits, money, unit } from "../format";
import { live } from "../live";
import { accountLink, label, remember, transferLink } from "../names";
import { meaning } from "../words";

const KEPT_AS = "walengine payment";
/** Milliseconds before it is sent again. */
const AGAIN_AFTER = 2_000;

interface Form {
  id: string;
  debit_account: string;
  credit_account: string;
  amount: string;
  ledger: number;
  code: number;
  pending: boolean;
  timeout_seconds: number;
}
interface Outcome {
  id: string;
  verdict: string;
  repeat: boolean;
  offset?: string;
}

/** A UUID of version 7: time, then chance. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let now = BigInt(Date.now());
  for (let at = 5; at >= 0; at--, now >>= 8n) bytes[at] = Number(now & 255n);
  bytes[6] = 0x70 | (bytes[6]! & 15);
  bytes[8] = 0x80 | (bytes[8]! & 63);
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function kept(): Form | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT_AS) ?? "null") as Form | null;
  } catch {
    return null;
  }
}

/** Says what is wrong with a field, and goes there. */
function wrong(input: HTMLInputElement, text: string): Error {
  input.setAttribute("aria-invalid", "true");
  input.addEventListener("input", () => input.removeAttribute("aria-invalid"), { once: true });
  input.focus();
  return new Error(text);
}

function field(name: string, text: string, input: HTMLElement, hint = ""): HTMLElement {
  input.id = `pay-${name}`;
  if (hint) input.setAttribute("aria-describedby", `hint-${name}`);
  return h("div", { class: "field" }, h("label", { for: input.id }, text), input, hint && h("p", { class: "hint", id: `hint-${name}` }, hint));
}

export function pay(root: HTMLElement, from: string): () => void {
  let ended = false;
  const body = h("div", { class: "stack narrow" });
  root.append(h("h1", {}, "Pay"), body);

  const begin = (): void => {
    if (live.rights?.write === false)
      return replace(body, note(`The policy does not let ${live.rights.name ?? "you"} write: there is nothing to send from here.`, "bad"));
    const text = (attributes: object) => h("input", { type: "text", autocomplete: "off", spellcheck: "false", required: true, ...attributes });
    const debit = text({ value: from });
    const credit = text({});
    const sum = text({ inputmode: "decimal" });
    const code = text({ inputmode: "numeric", value: "1", maxlength: 5 });
    const only = h("input", { type: "checkbox", id: "pay-pending" });
    const days = text({ inputmode: "numeric", value: "7", maxlength: 3 });
    const hours = field("days", "Days until it ends by itself (0: never)", days);
    hours.hidden = true;
    only.addEventListener("change", () => void (hours.hidden = !only.checked));
    const told = h("div", { role: "alert" });
    const review = async (event: Event): Promise<void> => {
      event.preventDefault();
      try {
        const named = async (input: HTMLInputElement, what: string): Promise<Account> => {
          const found = await get<Account>(`/api/v1/accounts/${encodeURIComponent(input.value.trim())}`).catch((error: unknown) => {
            if (error instanceof Failed && error.isMissing) throw wrong(input, `There is no account “${input.value.trim()}” to ${what}.`);
            throw error;
          });
          remember(found);
          return found;
        };
        const [payer, payee] = [await named(debit, "pay from"), await named(credit, "pay to")];
        if (payer.ledger !== payee.ledger) throw wrong(credit, `The accounts are of different ledgers: ${unit(payer.ledger)} and ${unit(payee.ledger)}.`);
        const minor = minorUnits(sum.value, payer.ledger);
        const scale = knownLedgers().find((one) => one.ledger === payer.ledger)?.scale ?? 0;
        if (minor === null) throw wrong(sum, `The amount is a number above zero${scale > 0 ? ` with at most ${scale} decimals` : ", in minor units, without decimals"}.`);
        const number = (input: HTMLInputElement, most: number, what: string): number => {
          const value = Number(input.value.trim());
          if (!/^\d+$/.test(input.value.trim()) || value > most) throw wrong(input, `${what} is a whole number up to ${most}.`);
          return value;
        };
        const form: Form = {
          id: newId(),
          debit_account: payer.id,
          credit_account: payee.id,
          amount: minor.toString(),
          ledger: payer.ledger,
          code: number(code, 65_535, "The code"),
          pending: only.checked,
          timeout_seconds: only.checked ? number(days, 365, "Days") * 86_400 : 0,
        };
        confirm(form);
      } catch (error) {
        replace(told, note(error instanceof Error ? error.message : String(error), "bad"));
      }
    };
    replace(
      body,
      h(
        "form",
        { submit: (event) => void review(event), class: "stack", novalidate: true },
        field("debit", "From account", debit, "Name or id"),
        field("credit", "To account", credit, "Name or id"),
        field("amount", "Amount", sum, "With decimals where the ledger has them; else in minor units"),
        field("code", "Code", code, "What kind of payment, as your books number them"),
        h("div", { class: "check" }, only, h("label", { for: "pay-pending" }, "Only reserve it")),
        hours,
        told,
        h("div", { class: "bar" }, h("button", { type: "submit", class: "main" }, "Look over")),
      ),
    );
  };

  const sentence = (form: Form): Child[] => [
    form.pending ? "Reserve " : "Pay ", h("strong", {}, money(form.amount, form.ledger)), form.ledger && !knownLedgers().some((one) => one.ledger === form.ledger) ? ` minor units of ledger ${form.ledger}` : "",
    " from ", label(form.debit_account), " to ", label(form.credit_account), "?",
  ];

  const confirm = (form: Form): void => {
    const send = h("button", { type: "button", class: "main", click: () => void go(form) }, form.pending ? "Reserve" : "Pay");
    replace(body, h("p", { class: "lead" }, sentence(form)), h("p", { class: "hint" }, "Id ", h("span", { class: "id whole" }, form.id)),
      h("div", { class: "bar" }, send, h("button", { type: "button", click: begin }, "Back")));
    send.focus();
  };

  const go = async (form: Form): Promise<void> => {
    sessionStorage.setItem(KEPT_AS, JSON.stringify(form));
    const status = h("div", { role: "status" }, note("Sending …"));
    replace(body, h("p", { class: "lead" }, sentence(form)), status);
    for (let tries = 1; !ended; tries++) {
      try {
        const { pending, ...sent } = form;
        const answer = await post<Outcome>("/api/v1/transfers", { ...sent, flags: pending ? ["pending"] : [] });
        sessionStorage.removeItem(KEPT_AS);
        return finish(form, answer.body);
      } catch (error) {
        const failed = error instanceof Failed ? error : null;
        const problem = failed?.problem;
        const isUnknown = !problem || problem.status === 0 || problem.may_have_changed || problem.status >= 500;
        if (!isUnknown) {
          sessionStorage.removeItem(KEPT_AS);
          const text = failed?.isForbidden ? ["The policy does not allow this. Nothing was moved. ", problem.detail] : ["Nothing was moved. ", problem.detail];
          return replace(body, note(text, "bad"), h("div", { class: "bar" }, h("button", { type: "button", click: begin }, "Back to the form")));
        }
        replace(status, note([badge("warn", "The answer was lost"), ` The payment may have been made. It is sent again with the same id, which moves nothing twice (try ${tries + 1}).`], "warn"));
        await new Promise((done) => setTimeout(done, AGAIN_AFTER));
      }
    }
  };

  const finish = (form: Form, outcome: Outcome): void => {
    const isDone = outcome.verdict === "ok";
    replace(
      body,
      h("p", { class: "lead", role: "status" }, isDone ? badge("good", form.pending ? "Reserved" : "Paid") : badge("bad", `Refused: ${meaning(outcome.verdict)}`), isDone && outcome.repeat ? " by an earlier try; nothing was moved twice" : ""),
      isDone ? "" : note("Nothing was moved. With the same id the answer will always be this one."),
      h("p", {}, money(form.amount, form.ledger), " from ", accountLink(form.debit_account), " to ", accountLink(form.credit_account), " · ", transferLink(outcome.id)),
      h("div", { class: "bar" }, h("button", { type: "button", click: begin }, "Another payment")),
    );
  };

  const unfinished = kept();
  if (unfinished) {
    replace(
      body,
      note([badge("warn", "The outcome of a payment is not known."), " Ask for it: it is sent again with the same id, and moves nothing twice."], "warn"),
      h("p", { class: "lead" }, sentence(unfinished)),
      h("div", { class: "bar" }, h("button", { type: "button", class: "main", click: () => void go(unfinished) }, "Ask for the outcome")),
    );
  } else begin();
  return () => void (ended = true);
}
