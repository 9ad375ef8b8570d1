// Names of accounts, asked for many at once and remembered. Where there are none, ids are shown short.

import { type Account, post } from "./api";
import { h } from "./dom";
import { shortId } from "./format";
import { hasNames } from "./live";

/** Names that are remembered. */
const KEPT_MAX = 5_000;
/** Names that are asked for at once. */
const ASKED_MAX = 200;

const known = new Map<string, string | null>();
const wanted = new Set<string>();
const places = new Map<string, Set<HTMLElement>>();
let timer: number | undefined;

export function remember(account: Account): void {
  if (known.size >= KEPT_MAX) known.clear();
  known.set(account.id, account.name ?? null);
}

async function ask(): Promise<void> {
  timer = undefined;
  const ids = [...wanted].slice(0, ASKED_MAX);
  ids.forEach((id) => wanted.delete(id));
  try {
    const { body } = await post<{ accounts: (Account | null)[] }>("/api/v1/accounts/lookup", { ids });
    body.accounts.forEach((account, at) => account ? remember(account) : known.set(ids[at]!, null));
  } catch {
    // Ids are shown, and the next page asks again.
  }
  for (const id of ids) {
    const name = known.get(id);
    if (name) places.get(id)?.forEach((place) => ((place.textContent = name), place.classList.remove("id")));
    places.delete(id);
  }
  if (wanted.size > 0) timer = window.setTimeout(() => void ask(), 250);
}

/** An account's name, or its id for as long as none is known. */
export function label(id: string): HTMLElement {
  const name = known.get(id);
  const place = h("span", { class: name ? null : "id", title: id }, name ?? shortId(id));
  if (name === undefined && hasNames) {
    wanted.add(id);
    if (!places.has(id)) places.set(id, new Set());
    places.get(id)!.add(place);
    timer ??= window.setTimeout(() => void ask(), 30);
  }
  return place;
}

/** The same, and a way to the account. */
export function accountLink(id: string, key = ""): HTMLElement {
  return h("a", { href: `#/account/${encodeURIComponent(id)}`, "data-key": `${key}${id}` }, label(id));
}

export function transferLink(id: string, key = ""): HTMLElement {
  return h("a", { href: `#/transfer/${encodeURIComponent(id)}`, class: "id", title: id, "data-key": `t${key}${id}` }, shortId(id));
}
