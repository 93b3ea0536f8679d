// Addresses of screens: paths of this host, so that every one can be sent to somebody.

import { type AnchorHTMLAttributes, type ReactNode, useSyncExternalStore } from "react";

const listeners = new Set<() => void>();
window.addEventListener("popstate", told);

function told(): void {
  for (const listener of listeners) listener();
}

/** Asked before leaving a screen with unsaved changes; false keeps it. */
let mayLeave: () => boolean = () => true;

export function guardLeaving(ask: (() => boolean) | null): void {
  mayLeave = ask ?? (() => true);
}

export function go(to: string, replace = false): void {
  if (!mayLeave()) return;
  mayLeave = () => true;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  if (!to.startsWith("?")) window.scrollTo(0, 0);
  told();
}

/** Changes the query only; the screen stays. */
export function setQuery(changes: Record<string, string | null>): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value === null || value === "" ? query.delete(name) : query.set(name, value);
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
  told();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function usePath(): string {
  return useSyncExternalStore(subscribe, () => location.pathname);
}

export function useQueryParam(name: string): string {
  return useSyncExternalStore(subscribe, () => new URLSearchParams(location.search).get(name) ?? "");
}

export function Link({ to, children, ...rest }: { to: string; children: ReactNode } & AnchorHTMLAttributes<HTMLAnchorElement>) {
  return (
    <a
      {...rest}
      href={to}
      onClick={(event) => {
        rest.onClick?.(event);
        if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        go(to);
      }}
    >
      {children}
    </a>
  );
}
