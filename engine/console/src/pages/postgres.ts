// How far PostgreSQL is behind the log.

import { badge, type Child, h, note, replace, table } from "../dom";
import { line } from "../chart";
import { count, rough, span, time } from "../format";
import { type Projector } from "../api";
import { live, watch } from "../live";

const at = (seconds: number): string => time(new Date(seconds * 1000).toISOString());

/** What the last audit has found. The projector's page of metrics has it from the database. */
function audit(projector: Projector): Child {
  const last = projector.audit;
  const since = projector.audit_unfinished_since;
  const running = since === null ? null : h("p", {}, `Another one began at ${at(since)} and has not ended: it runs, or was killed.`);
  if (!last) return [h("p", {}, since === null ? "No audit has been made." : `One began at ${at(since)} and has not ended: it runs, or was killed.`)];
  const upto = projector.partitions.filter((one) => one.audited_offset !== null).map((one) => `${one.partition} at ${count(one.audited_offset ?? "0")}`);
  const said = {
    equal: badge("good", "equal"),
    different: badge("bad", last.differences === "1" ? "one row differs" : `${count(last.differences ?? "0")} rows differ`),
    failed: badge("warn", "did not come to its end"),
  }[last.outcome];
  return [
    h("p", { class: "audit" }, said, ` at ${at(last.ended)}, after ${span(last.ended - last.began)}`, upto.length > 0 && `: all records below ${upto.join(", ")}`, "."),
    last.outcome !== "equal" && h("p", {}, "Which rows, or why, is in table ", h("code", {}, "audits"), ", newest row, column ", h("code", {}, "said"), "."),
    running,
  ];
}

export function postgres(root: HTMLElement): () => void {
  const body = h("div", { class: "stack" });
  root.append(h("h1", {}, "PostgreSQL"), body);
  const show = (): void => {
    const projector = live.projector;
    if (!projector) return replace(body, note("Looking …"));
    if (projector.state === "unknown") return replace(body, note(["No projector was named: ", projector.detail, "."]));
    if (projector.state === "silent")
      return replace(body, note(["The projector does not answer (", projector.detail, "). Balances in PostgreSQL stand still; the ledger does not."], "bad"));
    const yes = (is: boolean): Child => (is ? badge("good", "connected") : badge("bad", "not connected"));
    const rows = projector.partitions.map((one) => [
      `Partition ${one.partition}`,
      count(one.next_offset),
      count(one.log_end),
      one.lag_records === "0" ? badge("good", "none") : count(one.lag_records),
      span(one.lag_seconds),
      yes(one.engine_connected),
      one.standby ? badge("idle", "stands by") : yes(one.postgres_connected),
      count(one.rows),
    ]);
    const columns = [
      { head: "Partition" }, { head: "Position", number: true }, { head: "End of the log", number: true }, { head: "Missing", number: true },
      { head: "Oldest of them", number: true }, { head: "Engine" }, { head: "Database" }, { head: "Rows since its start", number: true, wide: true },
    ];
    replace(
      body,
      h("section", { class: "tile" }, h("h2", {}, "Records that PostgreSQL lacks"), h("p", { class: "figure" }, rough(live.lag.last)), line(live.lag, "Lag over the last minutes")),
      table("Partitions in PostgreSQL", columns, rows),
      h("h2", {}, "Audit"),
      audit(projector),
      h("p", {}, "Rows and position commit together, so what is there is what the log says up to the position. To prove it, row by row:"),
      h("pre", {}, h("code", {}, "walengine-projector audit")),
      h("p", { class: "hint" }, "It prints “equal at position P”, or what differs, and its outcome is kept in table audits."),
    );
  };
  show();
  return watch(show);
}
