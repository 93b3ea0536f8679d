// The REST API as the console speaks it: session cookie, CSRF token, tenant, version; faults as `ApiError`.

export const VERSION = "22.1.3";

export interface Problem {
  path: string;
  why: string;
  value?: string;
  hint?: string;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly problems: Problem[] = [],
    readonly body: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

export type Document = Record<string, any>;

export interface Listing<T = Document> {
  count: number;
  results: T[];
  next?: string;
}

/** "" = the user's home. */
let tenant = remembered("tenant");
const signedOut = new Set<() => void>();

export function currentTenant(): string {
  return tenant;
}

export function setTenant(name: string): void {
  tenant = name;
  remember("tenant", name);
}

/** Called when the session has ended. */
export function onSignedOut(callback: () => void): () => void {
  signedOut.add(callback);
  return () => signedOut.delete(callback);
}

export interface Answer<T> {
  data: T;
  /** What was accepted and has no effect, and the like. */
  warnings: string[];
}

export async function call<T = Document>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Answer<T>> {
  const headers: Record<string, string> = { "X-Avi-Version": VERSION, Accept: "application/json" };
  if (tenant) headers["X-Avi-Tenant"] = tenant;
  if (method !== "GET") headers["X-CSRFToken"] = cookie("csrftoken");
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, credentials: "same-origin" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The controller does not answer. Is it running, and is the network up? This page tries again by itself.");
  }
  const text = await response.text();
  const data = parsed(text);
  if (!response.ok) {
    if (response.status === 401) for (const callback of signedOut) callback();
    const given = (data ?? {}) as Document;
    throw new ApiError(response.status, String(given.error ?? text ?? response.statusText), given.problems ?? [], given);
  }
  const warnings = response.headers.get("X-Shoal-Warning");
  return { data: data as T, warnings: warnings ? warnings.split(/, (?=[A-Za-z])/) : [] };
}

export async function get<T = Document>(path: string, signal?: AbortSignal): Promise<T> {
  return (await call<T>("GET", path, undefined, signal)).data;
}

/** Every object of a type, page by page. */
export async function list<T = Document>(type: string, query = ""): Promise<T[]> {
  const found: T[] = [];
  for (let page = 1; ; page += 1) {
    const answer = await get<Listing<T>>(`/api/${type}?page_size=200&page=${page}${query ? `&${query}` : ""}`);
    found.push(...answer.results);
    if (!answer.next || answer.results.length === 0) return found;
  }
}

export async function signIn(username: string, password: string): Promise<Document> {
  const response = await fetch("/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username, password }),
    credentials: "same-origin",
  }).catch(() => {
    throw new ApiError(0, "The controller does not answer. Is it running, and is the network up?");
  });
  const data = parsed(await response.text()) as Document | null;
  if (!response.ok) throw new ApiError(response.status, String(data?.error ?? response.statusText));
  return data ?? {};
}

export async function signOut(): Promise<void> {
  await call("POST", "/logout");
}

export function uuidOf(ref: string | undefined): string {
  return (ref ?? "").split("#")[0]!.split("/").pop() ?? "";
}

export function nameOf(ref: string | undefined): string {
  return (ref ?? "").split("#")[1] ?? "";
}

export function cookie(name: string): string {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)).replace(/^"|"$/g, "") : "";
}

export function remembered(name: string): string {
  try {
    return localStorage.getItem(`shoal.${name}`) ?? "";
  } catch {
    return "";
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`shoal.${name}`, value);
  } catch {
    // A browser that keeps nothing: the choice lasts as long as the page.
  }
}

function parsed(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
