// The small parts that every screen is made of.

import { type ButtonHTMLAttributes, type ReactNode, useEffect, useId, useRef, useState } from "react";
import type { ApiError } from "../core/api";
import { Link } from "../core/router";
import { ago, type Tone, time, wholeTime } from "../core/format";

type Kind = "primary" | "plain" | "danger" | "quiet";

export function Button({ kind = "plain", busy = false, children, ...rest }: { kind?: Kind; busy?: boolean } & ButtonHTMLAttributes<HTMLButtonElement>) {
  return (
    <button type="button" {...rest} className={`button ${kind} ${rest.className ?? ""}`} aria-busy={busy || undefined} disabled={rest.disabled || busy}>
      {busy && <span className="spinner" aria-hidden />}
      {children}
    </button>
  );
}

export function Pill({ tone, children, title }: { tone: Tone; children: ReactNode; title?: string }) {
  return (
    <span className={`pill ${tone}`} title={title}>
      <span className="dot" aria-hidden />
      {children}
    </span>
  );
}

export function Tag({ children, title }: { children: ReactNode; title?: string }) {
  return (
    <span className="tag" title={title}>
      {children}
    </span>
  );
}

export function Card({ title, actions, children, className = "", label }: { title?: ReactNode; actions?: ReactNode; children: ReactNode; className?: string; label?: string }) {
  const id = useId();
  return (
    <section className={`card ${className}`} aria-labelledby={title ? id : undefined} aria-label={title ? undefined : label}>
      {title && (
        <header>
          <h2 id={id}>{title}</h2>
          {actions && <div className="actions">{actions}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

export function Page({ title, crumbs = [], status, actions, children, wide = false }: { title: string; crumbs?: [string, string][]; status?: ReactNode; actions?: ReactNode; children: ReactNode; wide?: boolean }) {
  useEffect(() => {
    document.title = `${title} · Shoal`;
  }, [title]);
  return (
    <div className={wide ? "page wide" : "page"}>
      <div className="page-head">
        <div>
          {crumbs.length > 0 && (
            <nav className="crumbs" aria-label="Breadcrumb">
              {crumbs.map(([name, to]) => (to ? <Link key={name} to={to}>{name}</Link> : <span key={name}>{name}</span>))}
            </nav>
          )}
          <h1>
            {title} {status}
          </h1>
        </div>
        {actions && <div className="actions">{actions}</div>}
      </div>
      {children}
    </div>
  );
}

export function Empty({ title, children, action }: { title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div className="empty">
      <svg viewBox="0 0 64 40" aria-hidden width="64" height="40">
        <path d="M6 20c8-9 20-9 28 0-8 9-20 9-28 0zm28 0 8-6v12z" fill="currentColor" opacity=".25" />
        <path d="M30 30c5-5 12-5 17 0-5 5-12 5-17 0zm17 0 5-4v8z" fill="currentColor" opacity=".16" />
      </svg>
      <h3>{title}</h3>
      {children && <p>{children}</p>}
      {action}
    </div>
  );
}

export function Fault({ error, retry }: { error: ApiError; retry?: () => void }) {
  return (
    <div className="note bad" role="alert">
      <p>{error.message}</p>
      {error.problems.length > 0 && (
        <ul>
          {error.problems.map((problem, n) => (
            <li key={n}>
              {problem.path && <b>{problem.path}</b>} {problem.why}
              {problem.hint ? ` ${problem.hint}` : ""}
            </li>
          ))}
        </ul>
      )}
      {retry && <Button onClick={retry}>Try again</Button>}
    </div>
  );
}

/** Instead of what is not there; other faults as they are. `all`: where the others are. */
export function Missing({ error, retry, all }: { error: ApiError; retry: () => void; all: string }) {
  if (error.status !== 404) return <Fault error={error} retry={retry} />;
  return (
    <Card label="Not found">
      <Empty title="It is not here" action={<Link to={all} className="button">See all</Link>}>
        It was deleted, or it is another tenant's: the tenant is chosen at the top.
      </Empty>
    </Card>
  );
}

export function Note({ tone = "info", children }: { tone?: Tone; children: ReactNode }) {
  return <div className={`note ${tone}`}>{children}</div>;
}

export function Loading({ what = "Loading" }: { what?: string }) {
  return (
    <div className="loading" role="status">
      <span className="spinner" aria-hidden /> {what} …
    </div>
  );
}

export function Time({ at, relative = false }: { at: number; relative?: boolean }) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!relative) return;
    const timer = setInterval(() => tick((n) => n + 1), 15_000);
    return () => clearInterval(timer);
  }, [relative]);
  if (!at) return <span className="muted">never</span>;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={wholeTime(at)}>
      {relative ? ago(at) : time(at)}
    </time>
  );
}

export function Dialog({ title, children, onClose, actions, wide = false }: { title: string; children: ReactNode; onClose: () => void; actions?: ReactNode; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      className={wide ? "wide" : ""}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <header>
        <h2 id={id}>{title}</h2>
        <button type="button" className="icon" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <div className="dialog-body">{children}</div>
      {actions && <footer>{actions}</footer>}
    </dialog>
  );
}

export function Tabs({ tabs, current, onChange, label }: { tabs: [string, string][]; current: string; onChange: (id: string) => void; label: string }) {
  const move = (event: React.KeyboardEvent, at: number) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const next = tabs[(at + step + tabs.length) % tabs.length]!;
    onChange(next[0]);
    (event.currentTarget.parentElement?.querySelector(`[data-tab="${next[0]}"]`) as HTMLElement | null)?.focus();
  };
  return (
    <div className="tabs" role="tablist" aria-label={label}>
      {tabs.map(([id, name], at) => (
        <button
          key={id}
          type="button"
          role="tab"
          data-tab={id}
          id={`tab-${id}`}
          aria-selected={id === current}
          aria-controls={`panel-${id}`}
          tabIndex={id === current ? 0 : -1}
          onClick={() => onChange(id)}
          onKeyDown={(event) => move(event, at)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

/** `bare`: in something that has its own edge, such as a dialog. */
export function Panel({ id, bare = false, children }: { id: string; bare?: boolean; children: ReactNode }) {
  return (
    <div role="tabpanel" id={`panel-${id}`} aria-labelledby={`tab-${id}`} className={bare ? "stack" : "panel"}>
      {children}
    </div>
  );
}

export function Meter({ value, of, tone = "info", label }: { value: number; of: number; tone?: Tone; label: string }) {
  const share = of > 0 ? Math.min(1, value / of) : 0;
  return (
    <span className={`meter ${tone}`} role="img" aria-label={label} title={label}>
      <span style={{ inlineSize: `${share * 100}%` }} />
    </span>
  );
}

const ICONS: Record<string, string> = {
  close: "M6 6l12 12M18 6L6 18",
  edit: "M4 20h4L19 9l-4-4L4 16v4zM13.500 6.500l4 4",
  plus: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 100 14 7 7 0 000-14zM16 16l5 5",
  chevron: "M9 6l6 6-6 6",
  down: "M6 9l6 6 6-6",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v2M12 20v2M4 12H2M22 12h-2M5 5l1.500 1.500M17.500 17.500L19 19M5 19l1.500-1.500M17.500 6.500L19 5",
  moon: "M20 14.500A8 8 0 119.500 4a6.500 6.500 0 0010.500 10.500z",
  dashboard: "M4 13h6V4H4zM14 20h6V11h-6zM4 20h6v-3H4zM14 7h6V4h-6z",
  services: "M4 7h16M4 12h16M4 17h10",
  group: "M4 5h6v14H4zM14 5h6v14h-6M6.500 9h1M6.500 12h1M16.500 9h1M16.500 12h1",
  map: "M4 4h4v16H4zM10 4h4v10h-4zM16 4h4v13h-4z",
  engine: "M4 6h16v5H4zM4 13h16v5H4zM7 8.500h.01M7 15.500h.01",
  events: "M12 8v4l3 2M12 3a9 9 0 100 18 9 9 0 000-18z",
  settings: "M12 9a3 3 0 100 6 3 3 0 000-6zM19 12l2 1-2 4-2-.6-1.500 1L15 20h-4l-.5-2.600-1.500-1L7 17l-2-4 2-1-2-1 2-4 2 .6 1.500-1L11 4h4l.5 2.600 1.500 1L19 7l2 4z",
  certificate: "M5 4h14v10H5zM9 8h6M9 11h3M12 14v6l-2-1.500L8 20v-6",
  people: "M9 5a3 3 0 100 6 3 3 0 000-6zM3 19c0-3 3-5 6-5s6 2 6 5M16 6a2.500 2.500 0 010 5M17 14c2.500.5 4 2.500 4 5",
  menu: "M4 7h16M4 12h16M4 17h16",
  archive: "M4 5h16v4H4zM6 9v10h12V9M10 13h4",
  alert: "M12 4l9 16H3zM12 10v4M12 17h.01",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  bolt: "M13 3L5 14h6l-1 7 8-11h-6z",
  out: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
};

export function Icon({ name, size = 18 }: { name: string; size?: number }) {
  return (
    <svg className="svg-icon" width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.7" strokeLinecap="round" strokeLinejoin="round" aria-hidden>
      <path d={ICONS[name] ?? ""} />
    </svg>
  );
}

/** Something to type or to hand on, with a button that copies it. */
export function Command({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () =>
    navigator.clipboard.writeText(text).then(
      () => setCopied(true),
      () => toast("The browser does not let it be copied: mark the text and copy it by hand.", "warn"),
    );
  return (
    <div className="command">
      <pre tabIndex={0} role="region" aria-label={label}>{text}</pre>
      <Button onClick={copy}>{copied ? "Copied" : "Copy"}</Button>
    </div>
  );
}

// --- forms ---

/** What a field is called in the API and the shell, and whether anything reads it. */
export function FieldName({ code, idle = false }: { code?: string; idle?: boolean }) {
  if (!code) return null;
  return (
    <span className="field-name">
      {idle && <Tag title="It is kept for other tools; nothing here reads it.">no effect</Tag>}
      <code title={code}>{code}</code>
    </span>
  );
}

export function Field({ label, code, idle, hint, error, unit, children, htmlFor, wide = false }: { label: ReactNode; code?: string; idle?: boolean; hint?: ReactNode; error?: string; unit?: string; children: ReactNode; htmlFor: string; wide?: boolean }) {
  return (
    <div className={`field ${error ? "wrong" : ""} ${wide ? "wide" : ""}`}>
      {code ? <div className="labelled"><label htmlFor={htmlFor}>{label}</label><FieldName code={code} idle={idle} /></div> : <label htmlFor={htmlFor}>{label}</label>}
      <div className="input">
        {children}
        {unit && <span className="unit">{unit}</span>}
      </div>
      {error ? (
        <p className="error" id={`${htmlFor}-error`}>
          {error}
        </p>
      ) : (
        hint && (
          <p className="hint" id={`${htmlFor}-hint`}>
            {hint}
          </p>
        )
      )}
    </div>
  );
}

export function Switch({ id, label, code, idle, hint, checked, onChange, disabled }: { id: string; label: ReactNode; code?: string; idle?: boolean; hint?: ReactNode; checked: boolean; onChange: (on: boolean) => void; disabled?: boolean }) {
  return (
    <div className="switch-row">
      <input id={id} type="checkbox" role="switch" checked={checked} disabled={disabled} onChange={(event) => onChange(event.target.checked)} />
      <div>
        <label htmlFor={id}>{label}</label>
        <FieldName code={code} idle={idle} />
        {hint && <p className="hint">{hint}</p>}
      </div>
    </div>
  );
}

/** A set of names, typed one after another. */
export function Names({ id, values, onChange, placeholder, list, disabled = false }: { id: string; values: string[]; onChange: (values: string[]) => void; placeholder?: string; list?: string; disabled?: boolean }) {
  const [text, setText] = useState("");
  const add = () => {
    const more = text.split(",").map((name) => name.trim()).filter((name) => name && !values.includes(name));
    if (more.length) onChange([...values, ...more]);
    setText("");
  };
  return (
    <span className="names">
      {values.map((name) => (
        <span className="chip" key={name}>
          {name}
          <button type="button" aria-label={`Remove ${name}`} disabled={disabled} onClick={() => onChange(values.filter((other) => other !== name))}>
            <Icon name="close" size={12} />
          </button>
        </span>
      ))}
      <input
        id={id}
        list={list}
        value={text}
        placeholder={placeholder}
        disabled={disabled}
        onChange={(event) => setText(event.target.value)}
        onBlur={add}
        onKeyDown={(event) => {
          if (event.key === "Enter" || event.key === ",") {
            event.preventDefault();
            add();
          } else if (event.key === "Backspace" && !text && values.length) onChange(values.slice(0, -1));
        }}
      />
    </span>
  );
}

// --- messages that come and go ---

interface Toast {
  id: number;
  tone: Tone;
  text: string;
}

let toasts: Toast[] = [];
let nextToast = 1;
const toastListeners = new Set<() => void>();
const TOAST_MS = 7000;

export function toast(text: string, tone: Tone = "ok"): void {
  const id = nextToast++;
  toasts = [...toasts.slice(-3), { id, tone, text }];
  for (const listener of toastListeners) listener();
  setTimeout(() => {
    toasts = toasts.filter((other) => other.id !== id);
    for (const listener of toastListeners) listener();
  }, TOAST_MS);
}

export function Toasts() {
  const [, tick] = useState(0);
  const holder = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const listener = () => {
      tick((n) => n + 1);
      // Shown anew it is over a dialog that has been opened meanwhile.
      holder.current?.hidePopover();
      if (toasts.length) holder.current?.showPopover();
    };
    toastListeners.add(listener);
    return () => {
      toastListeners.delete(listener);
    };
  }, []);
  return (
    <div ref={holder} popover="manual" className="toasts" role="status" aria-live="polite">
      {toasts.map((one) => (
        <div key={one.id} className={`toast ${one.tone}`}>
          {one.text}
        </div>
      ))}
    </div>
  );
}
