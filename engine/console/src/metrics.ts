// The page for Prometheus, read in the browser: as much of it as the console draws.

export type Sample = { labels: Record<string, string>; value: number };

/** Samples by name, of the names that are asked for. */
export function parse(text: string, names: string[]): Map<string, Sample[]> {
  const found = new Map<string, Sample[]>(names.map((name) => [name, []]));
  for (const line of text.split("\n")) {
    const name = /^[a-z_]+/.exec(line)?.[0];
    const samples = name === undefined ? undefined : found.get(name);
    if (!name || !samples) continue;
    const open = line.indexOf("{");
    const close = line.lastIndexOf("}");
    const labels: Record<string, string> = {};
    if (open === name.length)
      for (const [, key, value] of line.slice(open + 1, close).matchAll(/([a-z_]+)="([^"]*)"/g)) labels[key!] = value!;
    const value = Number(line.slice(open === name.length ? close + 1 : name.length).trim().split(" ")[0]);
    if (Number.isFinite(value)) samples.push({ labels, value });
  }
  return found;
}

/** What buckets have counted by their upper bounds in seconds, over all partitions. */
export function buckets(samples: Sample[]): Map<number, number> {
  const sums = new Map<number, number>();
  for (const { labels, value } of samples) {
    const bound = labels["le"] === "+Inf" ? Infinity : Number(labels["le"]);
    sums.set(bound, (sums.get(bound) ?? 0) + value);
  }
  return sums;
}

/** A quantile of what was counted between two looks, within its bucket by the rule of three; NaN if nothing was. */
export function quantile(q: number, before: Map<number, number>, now: Map<number, number>): number {
  const bounds = [...now.keys()].sort((a, b) => a - b);
  const since = bounds.map((bound) => (now.get(bound) ?? 0) - (before.get(bound) ?? 0));
  const all = since.at(-1) ?? 0;
  if (all <= 0) return NaN;
  let [below, beneath] = [0, 0];
  for (const [at, bound] of bounds.entries()) {
    const upTo = since[at]!;
    if (upTo >= q * all) {
      if (bound === Infinity) return below;
      return below + ((bound - below) * (q * all - beneath)) / Math.max(1, upTo - beneath);
    }
    [below, beneath] = [bound, upTo];
  }
  return below;
}
