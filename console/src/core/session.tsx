// Who is signed in, for which tenant, and in which light.

import { createContext, useContext } from "react";
import type { Document } from "./api";
import { remember, remembered } from "./api";

export interface Session {
  user: string;
  fullName: string;
  tenants: string[];
  tenant: string;
  /** May this user change, or see, objects of this kind? The controller has the last word. */
  mayWrite: (type: string) => boolean;
  mayRead: (type: string) => boolean;
  /** Whether what belongs to all tenants together (what-if, import) is shown. */
  whole: boolean;
  switchTenant: (name: string) => void;
  end: () => void;
  about: Document;
}

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("no session");
  return session;
}

export type Theme = "light" | "dark" | "system";

export function theme(): Theme {
  return (remembered("theme") as Theme) || "system";
}

export function applyTheme(wanted: Theme): void {
  remember("theme", wanted);
  const dark = wanted === "dark" || (wanted === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  window.dispatchEvent(new Event("shoal-theme"));
}
