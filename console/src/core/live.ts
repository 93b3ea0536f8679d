// What is shown stays true: the controller's stream names topics that have changed, and whoever shows one asks again.

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { ApiError, currentTenant, get } from "./api";

type Callback = (topics: Set<string>) => void;

const EVERYTHING = "*";
const RETRY_MS = 2000;
/** After an answer comes a pause of so many times what it took: what is large is asked for less often. */
const PAUSES = 5;
const PAUSE_MS_MAX = 30_000;

let source: EventSource | null = null;
let connected = false;
let retry = 0;
const callbacks = new Set<Callback>();
const watchers = new Set<() => void>();

export function openStream(): void {
  closeStream();
  source = new EventSource("/api/stream");
  source.addEventListener("open", () => setConnected(true));
  source.addEventListener("changed", (event) => {
    setConnected(true);
    const topics = new Set<string>(JSON.parse((event as MessageEvent).data).topics);
    for (const callback of [...callbacks]) callback(topics);
  });
  source.addEventListener("error", () => {
    setConnected(false);
    // A browser gives up on an answer that is no stream (a session that ended): look whether it still is one.
    if (source?.readyState === EventSource.CLOSED) {
      window.clearTimeout(retry);
      retry = window.setTimeout(() => {
        get("/api/useraccount").then(openStream, (error: unknown) => {
          if (!(error instanceof ApiError && error.status === 401)) openStream();
        });
      }, RETRY_MS);
    }
  });
}

export function closeStream(): void {
  window.clearTimeout(retry);
  source?.close();
  source = null;
}

export function useConnected(): boolean {
  return useSyncExternalStore(
    (callback) => {
      watchers.add(callback);
      return () => watchers.delete(callback);
    },
    () => connected,
  );
}

function setConnected(now: boolean): void {
  if (now === connected) return;
  connected = now;
  for (const watcher of watchers) watcher();
}

export interface Query<T> {
  data: T | undefined;
  error: ApiError | undefined;
  loading: boolean;
  refresh: () => void;
}

interface Options {
  /** Topics of the stream after which it is asked again. */
  on?: string[];
  /** Also every so many milliseconds. */
  every?: number;
  /** At most once in so many milliseconds. */
  pause?: number;
}

/** What `load` gives (null: nothing is asked). It keeps what it has while it asks again. */
export function useLoad<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>, options: Options = {}): Query<T> {
  const [state, setState] = useState<{ key: string | null; data?: T; error?: ApiError }>({ key: null });
  const [turn, setTurn] = useState(0);
  const loader = useRef(load);
  loader.current = load;
  const { on, every, pause = 0 } = options;
  const topics = on?.join(",") ?? "";
  const busy = useRef(false);
  const again = useRef(false);
  const full = key === null ? null : `${currentTenant()} ${key}`;

  useEffect(() => {
    if (full === null) return;
    const abort = new AbortController();
    let ended = 0;
    let took = 0;
    let timer = 0;
    const ask = async () => {
      if (busy.current || (document.hidden && ended)) {
        again.current = true; // when it has come, or is looked at again
        return;
      }
      const wait = ended + Math.min(PAUSE_MS_MAX, Math.max(pause, PAUSES * took)) - performance.now();
      if (ended && wait > 0) {
        window.clearTimeout(timer);
        timer = window.setTimeout(ask, wait);
        return;
      }
      busy.current = true;
      const began = performance.now();
      try {
        const data = await loader.current(abort.signal);
        if (!abort.signal.aborted) setState({ key: full, data });
      } catch (error) {
        if (!abort.signal.aborted) {
          const known = error instanceof ApiError ? error : new ApiError(0, String(error));
          setState((before) => ({ key: full, data: before.key === full && known.status !== 404 ? before.data : undefined, error: known }));
        }
      } finally {
        busy.current = false;
        ended = performance.now();
        took = ended - began;
        if (again.current && !abort.signal.aborted) {
          again.current = false;
          void ask();
        }
      }
    };
    busy.current = false;
    again.current = false;
    void ask();
    const wanted = topics ? topics.split(",") : [];
    const changed: Callback = (named) => {
      if (wanted.some((topic) => named.has(topic)) || (named.has(EVERYTHING) && ended)) void ask();
    };
    if (wanted.length) callbacks.add(changed);
    const seen = () => {
      if (!document.hidden && again.current && !busy.current) {
        again.current = false;
        void ask();
      }
    };
    document.addEventListener("visibilitychange", seen);
    const interval = every ? window.setInterval(() => document.hidden || void ask(), every) : 0;
    return () => {
      abort.abort();
      window.clearTimeout(timer);
      window.clearInterval(interval);
      document.removeEventListener("visibilitychange", seen);
      callbacks.delete(changed);
    };
  }, [full, topics, every, pause, turn]);

  const current = state.key === full ? state : { data: undefined, error: undefined };
  const refresh = useCallback(() => setTurn((n) => n + 1), []);
  return { data: current.data, error: current.error, loading: full !== null && !current.data && !current.error, refresh };
}

/** The JSON answer of a path (null: nothing is asked). */
export function useGet<T>(path: string | null, options: Options = {}): Query<T> {
  return useLoad<T>(path, (signal) => get<T>(path ?? "", signal), options);
}
