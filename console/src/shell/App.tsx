// The frame round every screen: who is signed in, where one can go, whether what is shown is live.

import { Component, type ReactNode, Suspense, useCallback, useEffect, useMemo, useState } from "react";
import { ApiError, cookie, currentTenant, type Document, get, onSignedOut, setTenant, signOut } from "../core/api";
import { closeStream, openStream, useConnected } from "../core/live";
import { Link, go, usePath } from "../core/router";
import { applyTheme, type Session, SessionContext, theme } from "../core/session";
import { Button, Fault, Icon, Loading, Toasts } from "../ui/basics";
import { screenFor, SECTIONS } from "./screens";
import { SignIn } from "./SignIn";

export function App() {
  const [session, setSession] = useState<Session | null | undefined>(undefined);
  const [fault, setFault] = useState<ApiError | null>(null);

  const begin = useCallback(async () => {
    setFault(null);
    if (!cookie("csrftoken")) {
      setSession(null); // Nobody has signed in here: nothing to ask for.
      return;
    }
    try {
      const account = await get("/api/useraccount").catch((error: ApiError) => {
        if (![403, 404].includes(error.status) || !currentTenant()) throw error;
        setTenant(""); // one that this user may not enter: home
        return get("/api/useraccount");
      });
      setSession(sessionOf(account, begin, () => setSession(null)));
      openStream();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) setSession(null);
      else setFault(error as ApiError);
    }
  }, []);

  useEffect(() => {
    void begin();
    return onSignedOut(() => {
      closeStream();
      setSession(null);
    });
  }, [begin]);

  if (fault) return <div className="page"><Fault error={fault} retry={begin} /></div>;
  if (session === undefined) return <Loading what="Shoal" />;
  if (session === null) return <SignIn onDone={begin} />;
  return (
    <SessionContext value={session}>
      <Frame session={session} key={session.tenant} />
      <Toasts />
    </SessionContext>
  );
}

function sessionOf(account: Document, again: () => Promise<void>, ended: () => void): Session {
  const access = (account.access ?? {}) as Document;
  return {
    user: String(account.username),
    fullName: String(account.full_name || account.name || account.username),
    tenants: account.tenants ?? [],
    tenant: currentTenant() === "*" ? "*" : String(account.tenant ?? ""),
    about: account,
    whole: Boolean(account.whole),
    mayWrite: (type) => access[type] === "WRITE",
    mayRead: (type) => type in access,
    switchTenant: (name) => {
      setTenant(name);
      go("/");
      void again();
    },
    end: () => {
      closeStream();
      void signOut().catch(() => undefined);
      ended();
    },
  };
}

function Frame({ session }: { session: Session }) {
  const path = usePath();
  const [open, setOpen] = useState(false);
  const screen = useMemo(() => screenFor(path), [path]);
  useEffect(() => setOpen(false), [path]);
  useEffect(() => {
    if (!open) return;
    const close = (event: KeyboardEvent) => event.key === "Escape" && setOpen(false);
    window.addEventListener("keydown", close);
    return () => window.removeEventListener("keydown", close);
  }, [open]);
  return (
    <div className="frame">
      <a className="skip" href="#main">Skip to content</a>
      <nav className={`rail ${open ? "open" : ""}`} id="rail" aria-label="Sections">
        <Link to="/" className="brand">
          <img src="/shoal.svg" alt="" /> Shoal
        </Link>
        {SECTIONS.map(([title, all]): [string, typeof all] => [title, all.filter(([, , , type]) => !type || session.mayRead(type))]).filter(([, items]) => items.length > 0).map(([title, items]) => (
          <div key={title}>
            {title && <h2>{title}</h2>}
            <ul>
              {items.map(([name, to, icon]) => (
                <li key={to}>
                  <Link to={to} aria-current={isHere(path, to) ? "page" : undefined}>
                    <Icon name={icon} /> {name}
                  </Link>
                </li>
              ))}
            </ul>
          </div>
        ))}
      </nav>
      <div>
        <header className="topbar">
          <button type="button" className="icon menu-button" aria-label="Menu" aria-expanded={open} aria-controls="rail" onClick={() => setOpen(!open)}>
            <Icon name="menu" />
          </button>
          <Live />
          <span className="spread" />
          {session.tenants.length > 1 && (
            <select aria-label="Tenant" value={session.tenant} onChange={(event) => session.switchTenant(event.target.value)}>
              {session.tenants.map((name) => <option key={name} value={name}>{name}</option>)}
              {session.about.all_tenants && <option value="*">All tenants</option>}
            </select>
          )}
          <ThemeSwitch />
          <span className="user muted">{session.fullName}</span>
          <Button kind="quiet" onClick={session.end} aria-label="Sign out" title="Sign out">
            <Icon name="out" />
          </Button>
        </header>
        <main id="main">
          <Guard key={path}>
            <Suspense fallback={<Loading />}>{screen}</Suspense>
          </Guard>
        </main>
      </div>
    </div>
  );
}

function isHere(path: string, to: string): boolean {
  return to === "/" ? path === "/" : path === to || path.startsWith(`${to}/`);
}

function Live() {
  const connected = useConnected();
  return (
    <span className={`live ${connected ? "" : "off"}`} role="status">
      <i aria-hidden />
      <span>{connected ? "Live" : "Not live: trying to reach the controller"}</span>
    </span>
  );
}

function ThemeSwitch() {
  const [dark, setDark] = useState(document.documentElement.dataset.theme === "dark");
  const label = dark ? "Light" : "Dark";
  return (
    <button
      type="button"
      className="icon"
      aria-label={`${label} colours`}
      title={`${label} colours`}
      onClick={() => {
        applyTheme(dark ? "light" : "dark");
        setDark(!dark);
      }}
      data-theme-now={theme()}
    >
      <Icon name={dark ? "sun" : "moon"} />
    </button>
  );
}

/** A fault of a screen's leaves the frame standing. */
class Guard extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null as Error | null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <div className="page">
        <Fault error={new ApiError(0, `This screen could not be shown: ${this.state.error.message}. Reload the page; if it stays, please report it with this sentence.`)} retry={() => location.reload()} />
      </div>
    );
  }
}
