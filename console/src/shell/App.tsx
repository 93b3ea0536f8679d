// The frame round every screen: who is signed in, where one can go, whether what is shown is live.

import { Component, type ReactNode, Suspense, useCallback, useEffect, useMemo, useState } from "react";
import { ApiError, cookie, currentTenant, type Document, get, list, onSignedOut, setTenant, signOut } from "../core/api";
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
      const account = await get("/api/useraccount");
      const tenants = (await list("tenant")).map((tenant) => String(tenant.name));
      if (!tenants.includes(currentTenant()) && currentTenant() !== "*") setTenant(tenants[0] ?? "admin");
      setSession(sessionOf(account, tenants, setSession));
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

function sessionOf(account: Document, tenants: string[], set: (session: Session | null) => void): Session {
  const session: Session = {
    user: String(account.username),
    fullName: String(account.full_name || account.name || account.username),
    tenants,
    tenant: currentTenant(),
    about: account,
    mayWrite: (type) => writable(account, type),
    switchTenant: (name) => {
      setTenant(name);
      set(sessionOf(account, tenants, set));
      go("/");
    },
    end: () => {
      closeStream();
      void signOut().catch(() => undefined);
      set(null);
    },
  };
  return session;
}

/** `access` of the account, where the controller tells it: by type, `READ` or `WRITE`. */
function writable(account: Document, type?: string): boolean {
  const access = account.access as Document | undefined;
  if (!access) return true;
  if (type && type in access) return access[type] === "WRITE";
  return type ? access["*"] === "WRITE" : Object.values(access).includes("WRITE");
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
        {SECTIONS.map(([title, items]) => (
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
              <option value="*">All tenants</option>
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
