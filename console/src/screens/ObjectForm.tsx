// Any object, field by field, from its schema: what has no screen of its own is edited here.

import { useEffect, useMemo, useState } from "react";
import { call, type Document, nameOf, uuidOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useGet } from "../core/live";
import { Button, Fault, Field, FieldName, Icon, Loading, Names, Note, Switch, toast } from "../ui/basics";
import { Search } from "../ui/table";
import { choiceOf, type FieldSchema, labelOf, Numeric, type Schema } from "./fields";

const HIDDEN = new Set(["uuid", "url", "_last_modified", "tenant_ref", "vip_runtime", "version", "self_se_election", "runtime", "configpb_attributes"]);

/** `acting`: what has an effect is shown whether or not it is set. */
export function ObjectForm({ type, id = "", readOnly = false, acting = false, onSaved }: { type: string; id?: string; readOnly?: boolean; acting?: boolean; onSaved?: () => void }) {
  const path = id ? `/api/${type}/${id}` : `/api/${type}`;
  const schema = useGet<{ fields: Schema }>(`/api/console/schema/${type}`);
  const stored = useGet<Document>(`${path}?include_name`, { on: [type] });
  const [draft, setDraft] = useState<Document>({});
  const { busy, fault, attempt } = useAttempt();
  const [warnings, setWarnings] = useState<string[]>([]);
  /** When what was saved was: the draft stands until the form has it. */
  const [saved, setSaved] = useState(0);
  const age = Number(stored.data?._last_modified ?? 0);
  useEffect(() => {
    if (!saved || age < saved) return;
    setDraft({});
    setSaved(0);
  }, [saved, age]);
  const edits = useMemo(() => Object.fromEntries(Object.entries(draft).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(stored.data?.[name]))), [draft, stored.data]);
  if (schema.error) return <Fault error={schema.error} retry={schema.refresh} />;
  if (stored.error && !stored.data) return <Fault error={stored.error} retry={stored.refresh} />;
  if (!schema.data || !stored.data) return <Loading />;
  const changed = Object.keys(edits).length > 0;
  const wrong = new Map((fault?.problems ?? []).map((problem) => [problem.path.split(/[.[]/)[0], `${problem.why}. ${problem.hint ?? ""}`]));
  const save = () =>
    attempt(async () => {
      const set = Object.fromEntries(Object.entries(edits).filter(([, value]) => value !== undefined));
      const unset = Object.fromEntries(Object.keys(edits).filter((name) => !(name in set)).map((name) => [name, null]));
      const answer = await call("PATCH", path, { ...(Object.keys(set).length ? { replace: set } : {}), ...(Object.keys(unset).length ? { delete: unset } : {}) });
      setSaved(Number(answer.data._last_modified ?? 0));
      stored.refresh();
      setWarnings(answer.warnings);
      toast("Saved.");
      onSaved?.();
    });
  return (
    <div className="stack">
      {fault && <Fault error={fault} />}
      {warnings.map((warning) => <Note tone="warn" key={warning}>{warning}</Note>)}
      <EveryField fields={schema.data.fields} stored={stored.data} draft={draft} changed={edits} wrong={wrong} readOnly={readOnly} acting={acting} onChange={(name, value) => setDraft((was) => ({ ...was, [name]: value }))}>
        {!readOnly && (
          <>
            <Button disabled={!changed} onClick={() => setDraft({})}>Undo</Button>
            <Button kind="primary" busy={busy} disabled={!changed || saved > 0} onClick={save}>Save</Button>
          </>
        )}
      </EveryField>
    </div>
  );
}

/** Whether a field is worth showing where not all are: it says something, and that has an effect or is not the usual. */
function says(schema: FieldSchema, value: unknown): boolean {
  return value !== undefined && !(schema.idle && JSON.stringify(value) === JSON.stringify(schema.default));
}

function isCalled(name: string, text: string): boolean {
  const wanted = text.toLowerCase().trim();
  return name.includes(wanted.replaceAll(" ", "_")) || labelOf(name).toLowerCase().includes(wanted);
}

/** The fields of a schema: those that are set, or all of them, or those that are called so. `prefix` keeps ids apart. */
export function EveryField({ fields, stored, draft, changed, wrong, readOnly, acting = false, prefix = "", without = [], onChange, children }: { fields: Schema; stored: Document; draft: Document; changed: Document; wrong: Map<string | undefined, string>; readOnly: boolean; acting?: boolean; prefix?: string; without?: string[]; onChange: (name: string, value: unknown) => void; children?: React.ReactNode }) {
  const [text, setText] = useState("");
  const [all, setAll] = useState(false);
  const names = Object.keys(fields)
    .filter((name) => !HIDDEN.has(name) && !without.includes(name) && (text ? isCalled(name, text) : all || name in draft || (acting && !fields[name]!.idle) || says(fields[name]!, stored[name])))
    .sort((a, b) => Number(b === "name") - Number(a === "name") || Number(isWide(fields[a]!)) - Number(isWide(fields[b]!)) || labelOf(a).localeCompare(labelOf(b)));
  return (
    <>
      <div className="row">
        <Search value={text} onChange={setText} placeholder={`Find a${prefix ? ` ${prefix}` : ""} field`} />
        <label className="row" title="Also those that are not set, and those without effect"><input type="checkbox" checked={all} onChange={(event) => setAll(event.target.checked)} /> All fields</label>
        <span className="spread" />
        {children}
      </div>
      {names.length === 0 && <p className="muted">{text ? "No field is called so." : "None is set."}</p>}
      <div className="form">
        {names.map((name) => (
          <AnyField key={name} id={prefix ? `${prefix}-${name}` : name} name={name} schema={fields[name]!} value={name in draft ? draft[name] : stored[name]} changed={name in changed} error={wrong.get(name)} readOnly={readOnly} onChange={(value) => onChange(name, value)} />
        ))}
      </div>
    </>
  );
}

/** Those that take a whole line, after the others. */
function isWide(schema: FieldSchema): boolean {
  return Boolean(schema.fields) || schema.kind === "message" || (schema.kind === "array" && !schema.item?.ref);
}

interface AnyProps {
  id: string;
  name: string;
  schema: FieldSchema;
  value: unknown;
  changed: boolean;
  error?: string;
  readOnly: boolean;
  /** undefined: it is not set. */
  onChange: (value: unknown) => void;
}

function AnyField({ id, name, schema, value, changed, error, readOnly, onChange }: AnyProps) {
  const text = labelOf(name);
  const label = <span className={changed ? "changed" : ""}>{text}</span>;
  const named = { label, code: name, idle: schema.idle, htmlFor: id, error };
  if (schema.kind === "boolean") return <Switch id={id} label={label} code={name} idle={schema.idle} checked={Boolean(value ?? schema.default)} disabled={readOnly} onChange={onChange} />;
  if (schema.kind === "integer" || schema.kind === "number") {
    return <Numeric name={id} label={text} code={name} idle={schema.idle} schema={schema} value={value ?? schema.default ?? ""} changed={changed} error={error} disabled={readOnly} optional onChange={(given) => onChange(given)} />;
  }
  if (schema.enum && schema.kind === "string") {
    return (
      <Field {...named}>
        <select id={id} value={String(value ?? schema.default ?? "")} disabled={readOnly} onChange={(event) => onChange(event.target.value || undefined)}>
          {value === undefined && schema.default === undefined && <option value="">not set</option>}
          {schema.enum.map((one) => <option key={one} value={one} title={one}>{choiceOf(one, schema.enum!)}</option>)}
        </select>
      </Field>
    );
  }
  if (schema.kind === "string" && schema.ref) {
    return (
      <Field {...named} hint={`${schema.ref}, by name.`}>
        <input id={id} list={`${id}-names`} value={nameIn(value)} disabled={readOnly} onChange={(event) => onChange(event.target.value ? reference(schema.ref!, event.target.value) : undefined)} />
        <KnownNames id={`${id}-names`} type={schema.ref} />
      </Field>
    );
  }
  if (schema.kind === "array" && schema.item?.ref) {
    const values = Array.isArray(value) ? value : [];
    return (
      <Field {...named} hint={`${schema.item.ref}, by name: Enter after each.`}>
        <Names id={id} list={`${id}-names`} values={values.map(nameIn)} disabled={readOnly} onChange={(names) => onChange(names.map((one) => values.find((given) => nameIn(given) === one) ?? reference(schema.item!.ref!, one)))} />
        <KnownNames id={`${id}-names`} type={schema.item.ref} />
      </Field>
    );
  }
  if (schema.kind === "array" && schema.item?.kind === "string" && !schema.item.enum) {
    return (
      <Field {...named} hint="Enter after each.">
        <Names id={id} values={(Array.isArray(value) ? value : []).map(String)} disabled={readOnly} onChange={onChange} />
      </Field>
    );
  }
  if (schema.kind === "string") {
    return (
      <Field {...named}>
        <input id={id} value={String(value ?? "")} disabled={readOnly} onChange={(event) => onChange(event.target.value || undefined)} />
      </Field>
    );
  }
  if (schema.kind === "array" && schema.item?.fields) return <Entries id={id} name={name} schema={schema} value={value} changed={changed} error={error} readOnly={readOnly} onChange={onChange} />;
  if (schema.fields) return <Nested id={id} name={name} schema={schema} value={value} changed={changed} error={error} readOnly={readOnly} onChange={onChange} />;
  return <JsonField {...named} value={value} readOnly={readOnly} onChange={onChange} />;
}

/** What says something, and what could have an effect. */
function worthShowing(schema: Schema, stored: Document): [string, FieldSchema][] {
  const fields = Object.entries(schema).filter(([field]) => !HIDDEN.has(field));
  const shown = fields.filter(([field, one]) => !one.idle || says(one, stored[field]));
  return shown.length ? shown : fields;
}

/** The fields of a message. `id`: the message's own. */
function Members({ id, fields, stored, readOnly, onChange }: { id: string; fields: Schema; stored: Document; readOnly: boolean; onChange: (value: Document) => void }) {
  return (
    <div className="form">
      {worthShowing(fields, stored).map(([field, one]) => (
        <AnyField
          key={field}
          id={`${id}.${field}`}
          name={field}
          schema={one}
          value={stored[field]}
          changed={false}
          readOnly={readOnly}
          onChange={(given) => {
            const { [field]: _, ...rest } = stored;
            onChange(given === undefined ? rest : { ...rest, [field]: given });
          }}
        />
      ))}
    </div>
  );
}

/** A message: its own fields, behind its name. */
function Nested({ id, name, schema, value, changed, error, readOnly, onChange }: AnyProps) {
  const [open, setOpen] = useState(false);
  const stored = (value ?? {}) as Document;
  const set = Object.entries(schema.fields!).filter(([field, one]) => stored[field] !== undefined && JSON.stringify(stored[field]) !== JSON.stringify(one.default)).length;
  return (
    <details className="nested wide" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span className={changed ? "changed" : ""}>{labelOf(name)}</span> <span className="muted small">{value === undefined ? "not set" : set ? `${set} set` : "as usual"}</span> <FieldName code={name} idle={schema.idle} />
      </summary>
      {error && <p className="error">{error}</p>}
      {open && <Members id={id} fields={schema.fields!} stored={stored} readOnly={readOnly} onChange={onChange} />}
    </details>
  );
}

/** A list of messages, each behind what tells it from the others. */
function Entries({ id, name, schema, value, changed, error, readOnly, onChange }: AnyProps) {
  const [open, setOpen] = useState<ReadonlySet<number>>(new Set());
  const entries = (Array.isArray(value) ? value : []) as Document[];
  const text = labelOf(name);
  const toggle = (at: number, on: boolean) => setOpen((was) => new Set(on ? [...was, at] : [...was].filter((one) => one !== at)));
  return (
    <fieldset className="entries wide">
      <legend className="labelled">
        <span className={changed ? "changed" : ""}>{text}</span> <FieldName code={name} idle={schema.idle} />
      </legend>
      {error && <p className="error">{error}</p>}
      {entries.map((entry, at) => (
        <div className="entry" key={at}>
          <details className="nested" open={open.has(at)} onToggle={(event) => event.target === event.currentTarget && toggle(at, event.currentTarget.open)}>
            <summary>{brief(entry) || `${at + 1}`}</summary>
            {open.has(at) && <Members id={`${id}.${at}`} fields={schema.item!.fields!} stored={entry} readOnly={readOnly} onChange={(given) => onChange(entries.map((one, n) => (n === at ? given : one)))} />}
          </details>
          {!readOnly && (
            <button type="button" className="icon" aria-label={`Remove ${brief(entry) || at + 1} from ${text}`} onClick={() => { setOpen(new Set()); onChange(entries.filter((_, n) => n !== at)); }}>
              <Icon name="trash" size={16} />
            </button>
          )}
        </div>
      ))}
      {!readOnly && <div><Button onClick={() => { toggle(entries.length, true); onChange([...entries, {}]); }}><Icon name="plus" size={16} /> Add one</Button></div>}
    </fieldset>
  );
}

/** What tells an entry of a list from the others: its name, or what it says first. */
function brief(entry: Document): string {
  const said = (value: unknown): string => (typeof value === "string" ? nameIn(value) : typeof value === "number" ? String(value) : value && typeof value === "object" && !Array.isArray(value) ? Object.values(value).map(said).filter(Boolean).join(" ") : "");
  const { name, index, ...rest } = entry;
  const parts = name !== undefined ? [name] : Object.entries(rest).flatMap(([field, value]) => (said(value) && typeof value !== "boolean" ? [`${labelOf(field)} ${said(value)}`] : []));
  return [index, ...parts.slice(0, 3)].filter((part) => part !== undefined).join(" · ").slice(0, 90);
}

/** The name in a reference, stored or typed. */
function nameIn(reference: unknown): string {
  const text = String(reference ?? "");
  return nameOf(text) || decodeURIComponent(text.split("?name=")[1] ?? "") || uuidOf(text);
}

function reference(type: string, name: string): string {
  return `/api/${type.toLowerCase()}?name=${encodeURIComponent(name)}`;
}

/** What may be typed, the first 200 of it. */
function KnownNames({ id, type }: { id: string; type: string }) {
  const { data } = useGet<{ results: Document[] }>(`/api/${type.toLowerCase()}?fields=name&page_size=200`);
  return <datalist id={id}>{(data?.results ?? []).map((one) => <option key={one.uuid} value={String(one.name)} />)}</datalist>;
}

/** What is nested deeper, as the API has it. */
function JsonField({ label, code, idle, htmlFor, value, error, readOnly, onChange }: { label: React.ReactNode; code: string; idle?: boolean; htmlFor: string; value: unknown; error?: string; readOnly: boolean; onChange: (value: unknown) => void }) {
  const given = value === undefined ? "" : JSON.stringify(value, null, 2);
  const [text, setText] = useState(given);
  const [why, setWhy] = useState("");
  useEffect(() => setText(given), [given]);
  const leave = () => {
    try {
      onChange(text.trim() ? JSON.parse(text) : undefined);
      setWhy("");
    } catch (fault) {
      setWhy(`This is not JSON: ${(fault as Error).message}`);
    }
  };
  return (
    <Field label={label} code={code} idle={idle} htmlFor={htmlFor} error={why || error} wide>
      <textarea id={htmlFor} className="code" rows={Math.min(12, text.split("\n").length + 1)} value={text} disabled={readOnly} onChange={(event) => setText(event.target.value)} onBlur={leave} spellCheck={false} />
    </Field>
  );
}
