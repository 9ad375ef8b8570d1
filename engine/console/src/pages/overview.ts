// Is anything wrong? Then: what happens where.

import { type Cluster, type Node, silence } from "../api";
import { line, type Series } from "../chart";
import { badge, type Child, h, note, replace, table } from "../dom";
import { bytes, count, millis, rough, shortNode, span } from "../format";
import { live, watch } from "../live";

/** Seconds behind the log after which PostgreSQL is worth a look. */
const LATE_AFTER = 30;

const isWell = (node: Node): boolean => node.health === "alive" && node.answers !== false;

function wrong(cluster: Cluster): Child[] {
  const found: Child[] = [];
  for (const node of cluster.nodes)
    if (node.health === "alive" && node.answers === false)
      found.push(`Node ${shortNode(node.node)} (${node.client_address}) does not answer.`);
    else if (node.health !== "alive")
      found.push(`Node ${shortNode(node.node)}${node.client_address ? ` (${node.client_address})` : ""} is ${node.health}, for ${span(node.for_seconds)}.`);
  for (const partition of cluster.partitions)
    if (partition.leader === null) found.push(`Partition ${partition.partition} has no leader: nothing can be written there.`);
  for (const trouble of cluster.troubles)
    found.push((trouble.partition === null ? "" : `Partition ${trouble.partition}: `) + trouble.text);
  for (const reason of live.readiness?.reasons ?? []) found.push(`This node is not ready: ${reason}.`);
  const projector = live.projector;
  if (projector?.state === "silent") found.push(`The projector does not answer (${projector.detail}).`);
  const audit = projector?.audit;
  if (audit?.outcome === "different") found.push("PostgreSQL differs from the log, by the last audit.");
  if (audit?.outcome === "failed") found.push("The last audit of PostgreSQL did not come to its end.");
  for (const one of projector?.partitions ?? []) {
    if (!one.postgres_connected) found.push(`Partition ${one.partition}: the projector is not connected to PostgreSQL.`);
    if (!one.engine_connected) found.push(`Partition ${one.partition}: the projector does not hear from the engine.`);
    if (one.lag_seconds > LATE_AFTER) found.push(`Partition ${one.partition}: PostgreSQL is ${span(one.lag_seconds)} behind.`);
  }
  return found;
}

function tile(name: string, value: string, hint: string, series: Series): HTMLElement {
  const says = `${name}: ${value} now; the last minutes as a line`;
  return h("section", { class: "tile" }, h("h2", {}, name), h("p", { class: "figure" }, value), line(series, says), h("p", { class: "hint" }, hint));
}

function nodes(cluster: Cluster): HTMLElement {
  const leads = (node: string) => cluster.partitions.filter((partition) => partition.leader === node).length;
  const rows = cluster.nodes.map((node) => [
    h("strong", { title: node.node }, shortNode(node.node)),
    isWell(node) ? badge("good", "alive") : node.health === "alive" ? badge("warn", "no answer") : badge(node.health === "dead" ? "bad" : "warn", node.health),
    span(node.for_seconds),
    `${leads(node.node)} of ${cluster.partitions.length}`,
    bytes(node.free_bytes),
    h("span", { class: "id" }, node.client_address),
    node.version,
  ]);
  const columns = [
    { head: "Node" }, { head: "State" }, { head: "For", number: true }, { head: "Leads", number: true },
    { head: "Free disk", number: true, wide: true }, { head: "Clients at", wide: true }, { head: "Version", wide: true },
  ];
  return table("Nodes", columns, rows, cluster.nodes.map((node) => (isWell(node) ? "" : "marked")));
}

function partitions(cluster: Cluster): HTMLElement {
  const rows = cluster.partitions.map((one) => {
    const series = live.rates.get(one.partition);
    const behind = one.replicas.filter((replica) => replica.node !== one.leader);
    const most = behind.reduce((lag, { lag_entries }) => Math.max(lag, Number(lag_entries)), 0);
    return [
      h("a", { href: `#/log/${one.partition}`, "data-key": `p${one.partition}` }, `Partition ${one.partition}`),
      one.leader === null ? badge("bad", "none") : h("span", { title: one.leader }, `node\u00a0${shortNode(one.leader)}`),
      `${rough(series?.last ?? NaN)}/s`,
      series ? line(series, `Records a second of partition ${one.partition}`, [160, 26]) : "",
      count(one.committed_offset),
      behind.length === 0 ? "no follower" : `${rough(most)} entries`,
      `${live.reservations.get(one.partition) ?? "–"}`,
      one.replicas.map((replica) => `${shortNode(replica.node)} ${replica.role}`).join(", "),
      one.term,
    ];
  });
  const columns = [
    { head: "Partition" }, { head: "Leader" }, { head: "Records", number: true }, { head: "Last 90 s", wide: true },
    { head: "Committed", number: true }, { head: "Most behind", number: true }, { head: "Open reservations", number: true },
    { head: "Replicas", wide: true }, { head: "Term", number: true, wide: true },
  ];
  return table("Partitions", columns, rows, cluster.partitions.map((one) => (one.leader === null ? "marked" : "")));
}

function postgres(): [string, string] {
  const projector = live.projector;
  if (!projector || projector.state === "unknown") return ["not watched", "no projector was named"];
  if (projector.state === "silent") return ["silent", "the projector does not answer"];
  const lag = projector.partitions.reduce((sum, one) => sum + Number(one.lag_records), 0);
  const seconds = Math.max(0, ...projector.partitions.map((one) => one.lag_seconds));
  return [lag === 0 ? "up to date" : `${rough(lag)} behind`, seconds === 0 ? "records that PostgreSQL lacks" : `oldest of them: ${span(seconds)}`];
}

export function overview(root: HTMLElement): () => void {
  const body = h("div", { class: "stack" });
  root.append(h("h1", {}, "Overview"), body);
  const show = (): void => {
    const cluster = live.cluster;
    if (!cluster) {
      const why = live.problem && !live.problem.isUnanswered ? live.problem.message : silence() ? "This node does not answer yet." : "Looking …";
      return replace(body, note(why, live.problem?.isForbidden ? "bad" : ""));
    }
    const found = wrong(cluster);
    const all = found.length === 0
      ? h("p", { class: "verdict good" }, badge("good", "Nothing is wrong that this node knows of."))
      : h("div", { class: "verdict bad" }, h("h2", {}, badge("bad", found.length === 1 ? "One thing needs a person" : `${found.length} things need a person`)), h("ul", {}, found.map((one) => h("li", {}, one))));
    const [lag, hint] = postgres();
    replace(
      body,
      all,
      h(
        "div",
        { class: "tiles" },
        tile("Records", `${rough(live.rate.last)}/s`, "committed, all partitions", live.rate),
        tile("Answer, p99", millis(live.answer.last), "of writes that this node leads", live.answer),
        tile("Commit, p99", millis(live.commit.last), "durable on a majority", live.commit),
        tile("PostgreSQL", lag, hint, live.lag),
      ),
      h("h2", {}, "Partitions"),
      partitions(cluster),
      h("h2", {}, "Nodes"),
      nodes(cluster),
      h("p", { class: "hint" }, `Cluster ${cluster.cluster}, seen by a node of version ${cluster.version}. Reads go to any node; a rate is what was committed.`),
    );
  };
  show();
  return watch(show);
}
