// What is looked at again and again while the page is in sight: the cluster each second, the rest every other one.

import { type Cluster, Failed, type Projector, type Rights, get, getText, ready } from "./api";
import { Series } from "./chart";
import { describeLedgers, type Ledger } from "./format";
import { buckets, parse, quantile } from "./metrics";

/** Milliseconds between two looks at the cluster. */
export const LOOK_EVERY = 1_000;

export interface Live {
  cluster: Cluster | null;
  /** Why the cluster is not shown, if a problem is the reason. */
  problem: Failed | null;
  readiness: { ready: boolean; reasons: string[] } | null;
  projector: Projector | null;
  rights: Rights | null;
  /** Open reservations by partition, as this node's replicas count them. */
  reservations: Map<number, number>;
  free: number;
  rate: Series;
  rates: Map<number, Series>;
  answer: Series;
  commit: Series;
  lag: Series;
}

export const live: Live = {
  cluster: null,
  problem: null,
  readiness: null,
  projector: null,
  rights: null,
  reservations: new Map(),
  free: NaN,
  rate: new Series(),
  rates: new Map(),
  answer: new Series(),
  commit: new Series(),
  lag: new Series(),
};

export const verdicts = new Map<string, string>();
/** Whether this server has names of accounts and descriptions of ledgers. */
export let hasNames = false;

const listeners = new Set<() => void>();
export function watch(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
const tell = (): void => listeners.forEach((listener) => listener());

let offsets = new Map<number, { at: number; offset: bigint }>();
let counted: { answer: Map<number, number>; commit: Map<number, number> } | null = null;

async function lookAtCluster(): Promise<void> {
  const cluster = await get<Cluster>("/api/v1/cluster");
  const now = performance.now();
  let all = 0;
  const next = new Map<number, { at: number; offset: bigint }>();
  for (const { partition, committed_offset } of cluster.partitions) {
    const offset = BigInt(committed_offset);
    const before = offsets.get(partition);
    next.set(partition, { at: now, offset });
    // Another node may answer for a moment and be behind: never a rate below zero.
    const since = before ? Number(offset > before.offset ? offset - before.offset : 0n) : 0;
    const rate = before ? (since * 1000) / Math.max(1, now - before.at) : NaN;
    const series = live.rates.get(partition) ?? new Series();
    live.rates.set(partition, series);
    series.push(rate);
    all += Number.isFinite(rate) ? rate : 0;
  }
  live.rate.push(offsets.size > 0 ? all : NaN);
  offsets = next;
  live.cluster = cluster;
}

const NAMES = ["walengine_answer_seconds_bucket", "walengine_commit_seconds_bucket", "walengine_reservations_open", "walengine_disk_free_bytes"];

async function lookAtMetrics(): Promise<void> {
  const page = parse(await getText("/metrics"), NAMES);
  const now = { answer: buckets(page.get(NAMES[0]!) ?? []), commit: buckets(page.get(NAMES[1]!) ?? []) };
  if (counted) {
    live.answer.push(quantile(0.99, counted.answer, now.answer));
    live.commit.push(quantile(0.99, counted.commit, now.commit));
  }
  counted = now;
  live.reservations = new Map((page.get(NAMES[2]!) ?? []).map(({ labels, value }) => [Number(labels["partition"]), value]));
  live.free = page.get(NAMES[3]!)?.[0]?.value ?? NaN;
}

async function lookAtProjector(): Promise<void> {
  live.projector = await get<Projector>("/api/v1/projector");
  const lags = live.projector.partitions.map((one) => Number(one.lag_records));
  live.lag.push(live.projector.state === "answers" ? lags.reduce((sum, lag) => sum + lag, 0) : NaN);
}

async function once(): Promise<void> {
  live.rights = await get<Rights>("/api/v1/rights");
  const { verdicts: all } = await get<{ verdicts: { name: string; meaning: string }[] }>("/api/v1/verdicts");
  for (const { name, meaning } of all) verdicts.set(name, meaning);
  try {
    const answer = await get<Ledger[] | { ledgers: Ledger[] }>("/api/v1/ledgers");
    describeLedgers(Array.isArray(answer) ? answer : answer.ledgers);
    hasNames = true;
  } catch (error) {
    if (!(error instanceof Failed && error.isMissing)) throw error;
  }
}

let round = 0;
let isKnown = false;

async function look(): Promise<void> {
  const isSecond = round++ % 2 === 0;
  const all: Promise<unknown>[] = [lookAtCluster()];
  if (isSecond) all.push(lookAtMetrics(), lookAtProjector(), ready().then((said) => void (live.readiness = said)));
  const results = await Promise.allSettled(all);
  const failed = results.find((result) => result.status === "rejected");
  live.problem = failed?.reason instanceof Failed ? failed.reason : null;
  // Ledgers may be described while the page is open.
  if (!live.problem && (!isKnown || round % 60 === 0)) {
    await once();
    isKnown = true;
  }
}

/** Looks from now on, one look after the other, and not while nobody sees the page. */
export async function run(): Promise<never> {
  for (;;) {
    const begun = performance.now();
    if (!document.hidden) {
      await look().catch((error: unknown) => void (live.problem = error instanceof Failed ? error : live.problem));
      tell();
    }
    const left = LOOK_EVERY - (performance.now() - begun);
    await new Promise((done) => setTimeout(done, Math.max(200, left)));
  }
}
