// A line over the last minutes: newest at the right, from zero up.

import { svg } from "./dom";

/** Points that are kept, one a look. */
export const POINTS = 90;

export class Series {
  readonly points: number[] = [];
  push(value: number): void {
    this.points.push(value);
    if (this.points.length > POINTS) this.points.shift();
  }
  get last(): number {
    return this.points.at(-1) ?? NaN;
  }
}

/** Draws it. `says` is for who does not see it. Gaps where nothing was known stay gaps. */
export function line(series: Series, says: string, [width, height] = [240, 44]): SVGElement {
  const known = series.points.filter(Number.isFinite);
  const most = Math.max(...known, 0) * 1.15 || 1;
  const step = width / (POINTS - 1);
  const shift = POINTS - series.points.length;
  const runs: string[][] = [[]];
  series.points.forEach((value, at) => {
    if (!Number.isFinite(value)) return void (runs.at(-1)!.length && runs.push([]));
    const y = height - 1 - (value / most) * (height - 3);
    runs.at(-1)!.push(`${((at + shift) * step).toFixed(1)},${y.toFixed(1)}`);
  });
  const drawn = runs.filter((run) => run.length > 0);
  const first = (run: string[]) => run[0]!.split(",")[0];
  const last = (run: string[]) => run.at(-1)!.split(",")[0];
  return svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": says },
    svg("line", { class: "base", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }),
    drawn.map((run) => svg("polygon", { points: `${first(run)},${height} ${run.join(" ")} ${last(run)},${height}` })),
    drawn.map((run) => svg("polyline", { points: run.join(" ") })),
  );
}
