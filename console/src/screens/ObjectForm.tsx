// Any object, field by field, from its schema: what has no screen of its own is edited here.

import { useEffect, useMemo, useState } from "react";
import { ApiError, call, type Document } from "../core/api";
import { useGet } from "../core/live";
import { Button, Fault, Field, Loading, Note, Switch, toast } from "../ui/basics";
import { Search } from "../ui/table";
import { type FieldSchema, Numeric, type Schema } from "./fields";

const HIDDEN = new Set(["uuid", "url", "_last_modified", "tenant_ref", "vip_runtime", "version", "self_se_election", "runtime"]);

export function ObjectForm({ type, id = "", readOnly = false, onSaved }: { type: string; id?: string; readOnly?: boolean; onSaved?: () => void }) {
  const path = id ? `/api/${type}/${id}` : `/api/${type}`;
  const schema = useGet<{ fields: Schema }>(`/api/console/schema/${type}`);
  const stored = useGet<Document>(path, { on: [type] });
  const [draft, setDraft] = useState<Document>({});
  const [fault, setFault] = useState<ApiError | null>(null);
  const [warnings, setWarnings] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const [text, setText] = useState("");
  const [all, setAll] = useState(false);
  const edits = useMemo(() => Object.fromEntries(Object.entries(draft).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(stored.data?.[name]))), [draft, stored.data]);
  if (schema.error) return <Fault error={schema.error} retry={schema.refresh} />;
  if (stored.error && !stored.data) return <Fault error={stored.error} retry={stored.refresh} />;
  if (!schema.data || !stored.data) return <Loading />;
  const changed = Object.keys(edits).length > 0;
  const wrong = new Map((fault?.problems ?? []).map((problem) => [problem.path.split(/[.[]/)[0], `${problem.why}. ${problem.hint ?? ""}`]));
  const names = Object.keys(schema.data.fields)
    .filter((name) => !HIDDEN.has(name) && name.includes(text.toLowerCase().replaceAll(" ", "_")) && (all || text || name in stored.data! || name in draft))
    .sort((a, b) => Number(b === "name") - Number(a === "name") || a.localeCompare(b));
  const save = async () => {
    setBusy(true);
    setFault(null);
    try {
      const answer = await call("PATCH", path, { replace: edits });
      setDraft({});
      setWarnings(answer.warnings);
      toast("Saved.");
      onSaved?.();
    } catch (error) {
      setFault(error as ApiError);
    }
    setBusy(false);
  };
  return (
    <div className="stack">
      <div className="row">
        <Search value={text} onChange={setText} placeholder="Find a field" />
        <label className="row"><input type="checkbox" checked={all} onChange={(event) => setAll(event.target.checked)} /> All fields</label>
        <span className="spread" />
        {!readOnly && (
          <>
            <Button disabled={!changed} onClick={() => setDraft({})}>Undo</Button>
            <Button kind="primary" busy={busy} disabled={!changed} onClick={save}>Save</Button>
          </>
        )}
      </div>
      {fault && <Fault error={fault} />}
      {warnings.map((warning) => <Note tone="warn" key={warning}>{warning}</Note>)}
      <div className="form">
        {names.map((name) => (
          <AnyField key={name} name={name} schema={schema.data!.fields[name]!} value={name in draft ? draft[name] : stored.data![name]} changed={name in edits} error={wrong.get(name)} readOnly={readOnly} onChange={(value) => setDraft((was) => ({ ...was, [name]: value }))} />
        ))}
      </div>
    </div>
  );
}

function AnyField({ name, schema, value, changed, error, readOnly, onChange }: { name: string; schema: FieldSchema; value: unknown; changed: boolean; error?: string; readOnly: boolean; onChange: (value: unknown) => void }) {
  const label = <span className={changed ? "changed" : ""}>{name}</span>;
  if (schema.kind === "boolean") return <Switch id={name} label={name} checked={Boolean(value)} disabled={readOnly} onChange={onChange} />;
  if (schema.kind === "integer" || schema.kind === "number") {
    return <Numeric name={name} label={name} schema={schema} value={value ?? schema.default ?? ""} changed={changed} error={error} disabled={readOnly} onChange={(given) => onChange(given)} />;
  }
  if (schema.enum && schema.kind === "string") {
    return (
      <Field label={label} htmlFor={name} error={error}>
        <select id={name} value={String(value ?? "")} disabled={readOnly} onChange={(event) => onChange(event.target.value)}>
          {value === undefined && <option value="">not set</option>}
          {schema.enum.map((one) => <option key={one}>{one}</option>)}
        </select>
      </Field>
    );
  }
  if (schema.kind === "string") {
    return (
      <Field label={label} htmlFor={name} error={error} hint={schema.ref ? `Refers to a ${schema.ref}.` : undefined}>
        <input id={name} value={String(value ?? "")} disabled={readOnly} onChange={(event) => onChange(event.target.value)} />
      </Field>
    );
  }
  return <JsonField name={name} label={label} value={value} error={error} readOnly={readOnly} onChange={onChange} />;
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
