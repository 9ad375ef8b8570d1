// The frame around all pages: where one is, the search, light or dark, and whether the node answers.

import { silence, watchSilence } from "./api";
import { h, replace } from "./dom";
import { span, time } from "./format";
import { live, LOOK_EVERY, run, watch } from "./live";
import { account, find, transfer } from "./pages/find";
import { log, refused, reservations } from "./pages/log";
import { overview } from "./pages/overview";
import { pay } from "./pages/pay";
import { postgres } from "./pages/postgres";

const PAGES: [string, string][] = [
  ["", "Overview"],
  ["log", "Log"],
  ["reservations", "Reservations"],
  ["refused", "Refused"],
  ["postgres", "PostgreSQL"],
  ["pay", "Pay"],
];

const main = h("main", { id: "main", tabindex: -1 });
const banner = h("div", { class: "banner", role: "alert" });
const who = h("p", { class: "hint who" });
const links = PAGES.map(([page, name]) => h("a", { href: `#/${page}` }, name));
let leave: () => void = () => {};

function route(): void {
  const [page = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let argument = "";
  try {
    argument = decodeURIComponent(rest.join("/"));
  } catch {
    argument = rest.join("/");
  }
  const partition = /^\d{1,5}$/.test(argument) ? Number(argument) : 0;
  leave();
  main.replaceChildren();
  const opened: Record<string, () => () => void> = {
    "": () => overview(main),
    log: () => log(main, partition),
    reservations: () => reservations(main, partition),
    refused: () => refused(main, partition),
    postgres: () => postgres(main),
    pay: () => pay(main, argument),
    find: () => find(main, argument),
    account: () => account(main, argument),
    transfer: () => transfer(main, argument),
  };
  leave = (opened[page] ?? opened[""]!)();
  links.forEach((link, at) => {
    if (PAGES[at]![0] === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  const name = PAGES.find(([known]) => known === page)?.[1] ?? { find: "Find", account: "Account", transfer: "Transfer" }[page] ?? "Overview";
  document.title = `${name} · walengine`;
}

function tellSilence(): void {
  const since = silence();
  banner.hidden = since === null;
  if (since) {
    const seconds = (Date.now() - since.getTime()) / 1000;
    replace(banner, `✕ No answer from this node since ${time(since.toISOString())} (${span(seconds)}). What you see may be old. Trying again.`);
  }
}

function scheme(): HTMLElement {
  const root = document.documentElement;
  const names = ["auto", "light", "dark"];
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("walengine scheme") ?? "auto";
  } catch {
    // A browser that keeps nothing follows its own setting.
  }
  const select = h("select", { "aria-label": "Colours" }, names.map((name) => h("option", { value: name, selected: name === chosen }, { auto: "Auto", light: "Light", dark: "Dark" }[name])));
  const apply = (name: string): void => {
    root.setAttribute("data-scheme", name);
    try {
      localStorage.setItem("walengine scheme", name);
    } catch {
      // As above.
    }
  };
  apply(names.includes(chosen) ? chosen : "auto");
  select.addEventListener("change", () => apply(select.value));
  return select;
}

const search = h("input", { type: "search", id: "search", placeholder: "Account or transfer", "aria-label": "Find an account or transfer by name or id", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/" });
const form = h("form", { role: "search", submit: (event) => {
  event.preventDefault();
  const text = search.value.trim();
  if (text) location.hash = `#/find/${encodeURIComponent(text)}`;
} }, search, h("button", { type: "submit" }, "Find"));

document.body.append(
  h("a", { class: "skip", href: "#main", click: (event) => (event.preventDefault(), main.focus()) }, "To the page"),
  h("header", {}, h("a", { class: "mark", href: "#/" }, h("img", { src: "/console/icon.svg", alt: "", width: 22, height: 22 }), "walengine"), form, h("div", { class: "end" }, who, scheme())),
  h("nav", { class: "pages", "aria-label": "Pages" }, links),
  banner,
  main,
);
document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLElement && /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  search.focus();
});
window.addEventListener("hashchange", route);
watchSilence(tellSilence);
window.setInterval(tellSilence, LOOK_EVERY);
watch(() => {
  if (live.rights) who.textContent = live.rights.name ?? "";
});
tellSilence();
route();
void run();
