// Operations > Tenants and users.

import { useState } from "react";
import { ApiError, call, type Document, list } from "../core/api";
import { useLoad } from "../core/live";
import { setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Dialog, Empty, Fault, Field, Icon, Loading, Page, Panel, Tabs, toast } from "../ui/basics";
import { ObjectForm } from "./ObjectForm";

const KINDS: [string, string, string][] = [
  ["tenant", "Tenants", "A tenant's people see its own objects and what admin shares."],
  ["user", "Users", "People who may sign in, and as what in which tenant."],
  ["role", "Roles", "What a person may read and write."],
];

export default function Tenants() {
  const tab = useQueryParam("tab") || "tenant";
  const kind = KINDS.find(([type]) => type === tab) ?? KINDS[0]!;
  return (
    <Page title="Tenants and users" crumbs={[["Operations", ""]]}>
      <Card label="Tenants and users">
        <Tabs label="Kinds" tabs={KINDS.map(([type, name]) => [type, name])} current={kind[0]} onChange={(next) => setQuery({ tab: next === "tenant" ? null : next })} />
        <Panel id={kind[0]}><Objects key={kind[0]} type={kind[0]} about={kind[2]} /></Panel>
      </Card>
    </Page>
  );
}

export function Objects({ type, about }: { type: string; about: string }) {
  const { data, error, refresh } = useLoad<Document[]>(`objects ${type}`, () => list(type), { on: [type] });
  const { mayWrite } = useSession();
  const [open, setOpen] = useState<Document | null>(null);
  const [adding, setAdding] = useState(false);
  const write = mayWrite(type);
  const remove = async (one: Document) => {
    if (!window.confirm(`Delete ${type} ${one.name}?`)) return;
    try {
      await call("DELETE", `/api/${type}/${one.uuid}`);
      toast(`${one.name} is deleted.`);
      refresh();
    } catch (fault) {
      toast((fault as ApiError).message, "bad");
    }
  };
  return (
    <div className="stack">
      <div className="row">
        <p className="muted">{about}</p>
        <span className="spread" />
        {write && <Button onClick={() => setAdding(true)}><Icon name="plus" /> Create</Button>}
      </div>
      {error && <Fault error={error} retry={refresh} />}
      {!data && !error && <Loading />}
      {data?.length === 0 && <Empty title={`No ${type} yet`}>{about}</Empty>}
      <ul className="objects">
        {(data ?? []).map((one) => (
          <li key={one.uuid}>
            <button type="button" className="link" onClick={() => setOpen(one)}>{one.name}</button>
            <span className="muted small">{summary(one)}</span>
            {write && <button type="button" className="icon" aria-label={`Delete ${one.name}`} onClick={() => remove(one)}><Icon name="trash" size={16} /></button>}
          </li>
        ))}
      </ul>
      {open && (
        <Dialog title={open.name} wide onClose={() => setOpen(null)}>
          <ObjectForm type={type} id={open.uuid} readOnly={!write} onSaved={refresh} />
        </Dialog>
      )}
      {adding && <Create type={type} onClose={() => setAdding(false)} onDone={() => { setAdding(false); refresh(); }} />}
    </div>
  );
}

function summary(one: Document): string {
  return String(one.description ?? (one.is_superuser ? "superuser" : one.email ?? ""));
}

function Create({ type, onClose, onDone }: { type: string; onClose: () => void; onDone: () => void }) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState<ApiError | null>(null);
  const [tenant, setTenant] = useState("admin");
  const [role, setRole] = useState("");
  const user = type === "user";
  const roles = useLoad(user ? "role names" : null, async () => (await list("role", "fields=name")).map((one) => String(one.name)));
  const tenants = useLoad(user ? "tenant names" : null, async () => (await list("tenant", "fields=name")).map((one) => String(one.name)));
  const save = async () => {
    setFault(null);
    try {
      const access = role ? { access: [{ tenant_ref: `/api/tenant?name=${tenant}`, role_ref: `/api/role?name=${role}` }] } : {};
      const answer = await call("POST", `/api/${type}`, { name, ...(user ? { username: name, password, ...access } : {}) });
      toast(`${name} is made.`);
      for (const warning of answer.warnings) toast(warning, "warn");
      onDone();
    } catch (error) {
      setFault(error as ApiError);
    }
  };
  return (
    <Dialog title={`New ${type}`} onClose={onClose} actions={<><Button onClick={onClose}>Cancel</Button><Button kind="primary" disabled={!name} onClick={save}>Create</Button></>}>
      {fault && <Fault error={fault} />}
      <Field label="Name" htmlFor="new-name"><input id="new-name" value={name} onChange={(event) => setName(event.target.value)} /></Field>
      {user && (
        <>
          <Field label="Password" htmlFor="new-password"><input id="new-password" type="password" autoComplete="new-password" value={password} onChange={(event) => setPassword(event.target.value)} /></Field>
          <Field label="Tenant" htmlFor="new-tenant">
            <select id="new-tenant" value={tenant} onChange={(event) => setTenant(event.target.value)}>
              {(tenants.data ?? ["admin"]).map((one) => <option key={one}>{one}</option>)}
            </select>
          </Field>
          <Field label="Role" htmlFor="new-role" hint="What the user may read and write there. More tenants can be added afterwards.">
            <select id="new-role" value={role} onChange={(event) => setRole(event.target.value)}>
              <option value="">None yet</option>
              {(roles.data ?? []).map((one) => <option key={one}>{one}</option>)}
            </select>
          </Field>
        </>
      )}
    </Dialog>
  );
}
