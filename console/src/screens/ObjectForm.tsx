// Any object, field by field, from its schema: what has no screen of its own is edited here.

import { useEffect, useMemo, useState } from "react";
import { call, type Document, nameOf, uuidOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useGet } from "../core/live";
import { Button, Fault, Field, Loading, Names, Note, Switch, toast } from "../ui/basics";
import { Search } from "../ui/table";
import { type FieldSchema, Numeric, type Schema } from "./fields";

const HIDDEN = new Set(["uuid", "url", "_last_modified", "tenant_ref", "vip_runtime", "version", "self_se_election", "runtime"]);

export function ObjectForm({ type, id = "", readOnly = false, onSaved }: { type: string; id?: string; readOnly?: boolean; onSaved?: () => void }) {
  const path = id ? `/api/${type}/${id}` : `/api/${type}`;
  const schema = useGet<{ fields: Schema }>(`/api/console/schema/${type}`);
  const stored = useGet<Document>(`${path}?include_name`, { on: [type] });
  const [draft, setDraft] = useState<Document>({});
  const { busy, fault, attempt } = useAttempt();
  const [warnings, setWarnings] = useState<string[]>([]);
  const edits = useMemo(() => Object.fromEntries(Object.entries(draft).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(stored.data?.[name]))), [draft, stored.data]);
  if (schema.error) return <Fault error={schema.error} retry={schema.refresh} />;
  if (stored.error && !stored.data) return <Fault error={stored.error} retry={stored.refresh} />;
  if (!schema.data || !stored.data) return <Loading />;
  const changed = Object.keys(edits).length > 0;
  const wrong = new Map((fault?.problems ?? []).map((problem) => [problem.path.split(/[.[]/)[0], `${problem.why}. ${problem.hint ?? ""}`]));
  const save = () =>
    attempt(async () => {
      const answer = await call("PATCH", path, { replace: edits });
      setDraft({});
      setWarnings(answer.warnings);
      toast("Saved.");
      onSaved?.();
    });
  return (
    <div className="stack">
      {fault && <Fault error={fault} />}
      {warnings.map((warning) => <Note tone="warn" key={warning}>{warning}</Note>)}
      <EveryField fields={schema.data.fields} stored={stored.data} draft={draft} changed={edits} wrong={wrong} readOnly={readOnly} onChange={(name, value) => setDraft((was) => ({ ...was, [name]: value }))}>
        {!readOnly && (
          <>
            <Button disabled={!changed} onClick={() => setDraft({})}>Undo</Button>
            <Button kind="primary" busy={busy} disabled={!changed} onClick={save}>Save</Button>
          </>
        )}
      </EveryField>
    </div>
  );
}

/** The fields of a schema: those that are set, or all of them, or those that are called so. `prefix` keeps ids apart. */
export function EveryField({ fields, stored, draft, changed, wrong, readOnly, prefix = "", without = [], onChange, children }: { fields: Schema; stored: Document; draft: Document; changed: Document; wrong: Map<string | undefined, string>; readOnly: boolean; prefix?: string; without?: string[]; onChange: (name: string, value: unknown) => void; children?: React.ReactNode }) {
  const [text, setText] = useState("");
  const [all, setAll] = useState(false);
  const names = Object.keys(fields)
    .filter((name) => !HIDDEN.has(name) && !without.includes(name) && name.includes(text.toLowerCase().replaceAll(" ", "_")) && (all || text || name in stored || name in draft))
    .sort((a, b) => Number(b === "name") - Number(a === "name") || a.localeCompare(b));
  return (
    <>
      <div className="row">
        <Search value={text} onChange={setText} placeholder={`Find a${prefix ? ` ${prefix}` : ""} field`} />
        <label className="row"><input type="checkbox" checked={all} onChange={(event) => setAll(event.target.checked)} /> All fields</label>
        <span className="spread" />
        {children}
      </div>
      <div className="form">
        {names.map((name) => (
          <AnyField key={name} id={prefix ? `${prefix}-${name}` : name} name={name} schema={fields[name]!} value={name in draft ? draft[name] : stored[name]} changed={name in changed} error={wrong.get(name)} readOnly={readOnly} onChange={(value) => onChange(name, value)} />
        ))}
      </div>
    </>
  );
}

function AnyField({ id, name, schema, value, changed, error, readOnly, onChange }: { id: string; name: string; schema: FieldSchema; value: unknown; changed: boolean; error?: string; readOnly: boolean; onChange: (value: unknown) => void }) {
  const label = <span className={changed ? "changed" : ""}>{name}</span>;
  if (schema.kind === "boolean") return <Switch id={id} label={name} checked={Boolean(value ?? schema.default)} disabled={readOnly} onChange={onChange} />;
  if (schema.kind === "integer" || schema.kind === "number") {
    return <Numeric name={id} label={name} schema={schema} value={value ?? schema.default ?? ""} changed={changed} error={error} disabled={readOnly} onChange={(given) => onChange(given)} />;
  }
  if (schema.enum && schema.kind === "string") {
    return (
      <Field label={label} htmlFor={id} error={error}>
        <select id={id} value={String(value ?? schema.default ?? "")} disabled={readOnly} onChange={(event) => onChange(event.target.value)}>
          {value === undefined && schema.default === undefined && <option value="">not set</option>}
          {schema.enum.map((one) => <option key={one}>{one}</option>)}
        </select>
      </Field>
    );
  }
  if (schema.kind === "string" && schema.ref) {
    return (
      <Field label={label} htmlFor={id} error={error} hint={`The name of a ${schema.ref}.`}>
        <input id={id} list={`${id}-names`} value={named(value)} disabled={readOnly} onChange={(event) => onChange(event.target.value ? reference(schema.ref!, event.target.value) : undefined)} />
        <KnownNames id={`${id}-names`} type={schema.ref} />
      </Field>
    );
  }
  if (schema.kind === "array" && schema.item?.ref) {
    const values = Array.isArray(value) ? value : [];
    return (
      <Field label={label} htmlFor={id} error={error} hint={`Names of ${schema.item.ref} objects, Enter after each.`}>
        <Names id={id} list={`${id}-names`} values={values.map(named)} disabled={readOnly} onChange={(names) => onChange(names.map((one) => values.find((given) => named(given) === one) ?? reference(schema.item!.ref!, one)))} />
        <KnownNames id={`${id}-names`} type={schema.item.ref} />
      </Field>
    );
  }
  if (schema.kind === "string") {
    return (
      <Field label={label} htmlFor={id} error={error}>
        <input id={id} value={String(value ?? "")} disabled={readOnly} onChange={(event) => onChange(event.target.value)} />
      </Field>
    );
  }
  return <JsonField name={id} label={label} value={value} error={error} readOnly={readOnly} onChange={onChange} />;
}

/** The name in a reference, stored or typed. */
function named(reference: unknown): string {
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

/** Lists and nested messages, as the API has them. */
function JsonField({ name, label, value, error, readOnly, onChange }: { name: string; label: React.ReactNode; value: unknown; error?: string; readOnly: boolean; onChange: (value: unknown) => void }) {
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
    <Field label={label} htmlFor={name} error={why || error} wide>
      <textarea id={name} className="code" rows={Math.min(12, text.split("\n").length + 1)} value={text} disabled={readOnly} onChange={(event) => setText(event.target.value)} onBlur={leave} spellCheck={false} />
    </Field>
  );
}
