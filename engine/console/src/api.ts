// What this node is asked for, and whether it answers.

export interface Problem {
  status: number;
  title: string;
  detail: string;
  code: string;
  may_have_changed: boolean;
}

/** A request that got a problem, or no answer at all (status 0). */
export class Failed extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
  get isUnanswered(): boolean {
    return this.problem.status === 0;
  }
  get isForbidden(): boolean {
    return this.problem.status === 403 || this.problem.status === 401;
  }
  get isMissing(): boolean {
    return this.problem.status === 404;
  }
}

/** How long an answer may take, in milliseconds. */
const ANSWER_WITHIN = 8_000;

/** Since when the node gives no answer; null while it does. */
let silentSince: Date | null = null;
let onChange: () => void = () => {};

export const silence = (): Date | null => silentSince;
export function watchSilence(changed: () => void): void {
  onChange = changed;
}
function answered(does: boolean): void {
  if (does === (silentSince === null)) return;
  silentSince = does ? null : new Date();
  onChange();
}

async function ask(path: string, init: RequestInit = {}, within = ANSWER_WITHIN): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, signal: AbortSignal.timeout(within), cache: "no-store" });
  } catch (error) {
    answered(false);
    throw new Failed({ status: 0, title: "No answer", detail: "This node does not answer.", code: "no_answer", may_have_changed: true });
  }
  answered(true);
  return response;
}

async function read(response: Response): Promise<unknown> {
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    throw new Failed({ status: 0, title: "Cut off", detail: "The answer was cut off.", code: "cut_off", may_have_changed: true });
  }
  const isProblem = response.headers.get("content-type")?.startsWith("application/problem+json");
  if (isProblem) throw new Failed(body as Problem);
  return body;
}

export async function get<T>(path: string): Promise<T> {
  return (await read(await ask(path))) as T;
}

export async function getText(path: string): Promise<string> {
  const response = await ask(path);
  if (!response.ok) await read(response);
  return response.text();
}

/** Posts a form. The status tells 201 from 200 from 409. */
export async function post<T>(path: string, form: unknown, within = ANSWER_WITHIN): Promise<{ status: number; body: T }> {
  const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(form) };
  const response = await ask(path, init, within);
  return { status: response.status, body: (await read(response)) as T };
}

/** Readiness: an answer of 503 is one, too. */
export async function ready(): Promise<{ ready: boolean; reasons: string[] }> {
  const response = await ask("/health/ready");
  return (await response.json()) as { ready: boolean; reasons: string[] };
}

export interface Account {
  id: string;
  name?: string;
  ledger: number;
  code: number;
  flags: string[];
  debits_pending: string;
  debits_posted: string;
  credits_pending: string;
  credits_posted: string;
  version: string;
  created?: string;
}
export interface Transfer {
  type: "transfer" | "account" | "guard" | "close";
  id: string;
  debit_account?: string;
  credit_account?: string;
  account?: string;
  amount?: string;
  ledger?: number;
  code?: number;
  flags?: string[];
  pending_id?: string;
  timeout_seconds?: number;
  reopen?: boolean;
}
export interface Effect {
  debit_account: string;
  credit_account: string;
  amount: string;
  ledger: number;
}
export interface Decision {
  verdict: string;
  partition: number;
  offset: string;
  time?: string;
  event?: Transfer;
  effective?: Effect;
}
export interface LogRecord {
  offset: string;
  time?: string;
  kind: string;
  verdict: string;
  id?: string;
  event?: Transfer;
  effective?: Effect;
  decided?: string;
  amount?: string;
  from_partition?: number;
}
export interface Node {
  node: string;
  health: string;
  answers: boolean | null;
  for_seconds: number;
  cores: number;
  free_bytes: string;
  client_address: string;
  version: string;
}
export interface Partition {
  partition: number;
  leader: string | null;
  term: string;
  committed_offset: string;
  is_changing: boolean;
  replicas: { node: string; role: string; lag_entries: string }[];
}
export interface Cluster {
  cluster: string;
  version: string;
  nodes: Node[];
  partitions: Partition[];
  troubles: { partition: number | null; text: string }[];
}
export interface Projector {
  state: "answers" | "silent" | "unknown";
  detail: string;
  partitions: {
    partition: number;
    next_offset: string;
    log_end: string;
    lag_records: string;
    lag_seconds: number;
    engine_connected: boolean;
    postgres_connected: boolean;
    standby: boolean;
    rows: string;
    audited_offset: string | null;
  }[];
  audit: {
    outcome: "equal" | "different" | "failed";
    differences: string | null;
    began: number;
    ended: number;
  } | null;
  audit_unfinished_since: number | null;
}
export interface Rights {
  name?: string;
  write: boolean;
  read: boolean;
  read_log: boolean;
  admin: boolean;
}
