// Tenants, users and roles: who sees what, and who may do what.

import { useState } from "react";
import { type Document, nameOf } from "../core/api";
import { useGet } from "../core/live";
import { useSession } from "../core/session";
import { Button, Field, Icon, Note, Pill, Switch } from "../ui/basics";
import { type Column, Search } from "../ui/table";
import type { Schema } from "./fields";
import { type FormProps, useNames, written } from "./Objects";

// --- tenants ---

export const TENANT_COLUMNS: Column<Document>[] = [{ id: "about", title: "Description", width: "2fr", cell: (one) => <span className="muted">{one.name === "admin" ? "What it has of profiles, groups and networks, all tenants use." : one.description}</span> }];

export function TenantForm({ stored, readOnly, save, foot }: FormProps) {
  const { switchTenant, tenant } = useSession();
  const [name, setName] = useState<string>(stored?.name ?? "");
  const [about, setAbout] = useState<string>(stored?.description ?? "");
  return (
    <div className="stack">
      <Field label="Name" htmlFor="tenant-name"><input id="tenant-name" value={name} disabled={readOnly} onChange={(event) => setName(event.target.value)} /></Field>
      <Field label="Description" htmlFor="tenant-about" wide><input id="tenant-about" value={about} disabled={readOnly} onChange={(event) => setAbout(event.target.value)} /></Field>
      {!stored && <p className="muted">People enter a tenant by a role in it: give them one under Users.</p>}
      {stored && stored.name !== tenant && <div><Button onClick={() => switchTenant(stored.name)}>Work in {stored.name}</Button></div>}
      {foot(Boolean(name), () => save(() => written("tenant", stored, { name, description: about })))}
    </div>
  );
}

// --- users ---

interface Access {
  tenant: string;
  role: string;
}

const EVERYWHERE = "all tenants";

function accessOf(user: Document | null): Access[] {
  return (user?.access ?? []).map((one: Document) => ({ tenant: one.all_tenants ? EVERYWHERE : nameOf(one.tenant_ref), role: nameOf(one.role_ref) }));
}

export const USER_COLUMNS: Column<Document>[] = [
  { id: "full", title: "Person", width: "minmax(120px, 1fr)", hideNarrow: true, by: (one) => String(one.full_name ?? ""), cell: (one) => one.full_name || <span className="muted">–</span> },
  {
    id: "access",
    title: "May",
    width: "minmax(110px, 2fr)",
    cell: (one) => (
      <>
        {one.is_active === false && <Pill tone="off" title="May not sign in">Disabled</Pill>}{" "}
        {one.is_superuser ? "Everything, everywhere" : accessOf(one).map((entry) => `${entry.role} in ${entry.tenant}`).join(", ") || <span className="muted">nothing yet</span>}
      </>
    ),
  },
];

export function UserForm({ stored, readOnly, save, foot }: FormProps) {
  const { user } = useSession();
  const [name, setName] = useState<string>(stored?.username ?? stored?.name ?? "");
  const [full, setFull] = useState<string>(stored?.full_name ?? "");
  const [email, setEmail] = useState<string>(stored?.email ?? "");
  const [password, setPassword] = useState("");
  const [active, setActive] = useState(stored?.is_active !== false);
  const [superuser, setSuperuser] = useState(Boolean(stored?.is_superuser));
  const [access, setAccess] = useState<Access[]>(accessOf(stored));
  const [profile, setProfile] = useState<string>(nameOf(stored?.user_profile_ref));
  const roles = useNames("role");
  const tenants = useNames("tenant");
  const profiles = useNames("useraccountprofile");
  const change = (at: number, edit: Partial<Access>) => setAccess(access.map((one, n) => (n === at ? { ...one, ...edit } : one)));
  const done = () => {
    const fields: Document = {
      name,
      username: name,
      full_name: full,
      email,
      is_active: active,
      is_superuser: superuser,
      access: access.map((one) => ({
        role_ref: `/api/role?name=${encodeURIComponent(one.role)}`,
        ...(one.tenant === EVERYWHERE ? { all_tenants: true } : { tenant_ref: `/api/tenant?name=${encodeURIComponent(one.tenant)}` }),
      })),
    };
    if (password) fields.password = password;
    if (profile) fields.user_profile_ref = `/api/useraccountprofile?name=${encodeURIComponent(profile)}`;
    save(() => written("user", stored, fields));
  };
  const whole = access.every((one) => one.role && one.tenant);
  return (
    <div className="stack">
      <div className="form">
        <Field label="User name" htmlFor="user-name"><input id="user-name" value={name} autoComplete="off" disabled={readOnly || Boolean(stored)} onChange={(event) => setName(event.target.value)} /></Field>
        <Field label="Full name" htmlFor="user-full"><input id="user-full" value={full} disabled={readOnly} onChange={(event) => setFull(event.target.value)} /></Field>
        <Field label="E-mail" htmlFor="user-email"><input id="user-email" type="email" value={email} disabled={readOnly} onChange={(event) => setEmail(event.target.value)} /></Field>
        {!readOnly && (
          <Field label={stored ? "New password" : "Password"} htmlFor="user-password" hint={stored ? "Empty: it stays as it is. A new one ends the user's sessions." : undefined}>
            <input id="user-password" type="password" autoComplete="new-password" value={password} onChange={(event) => setPassword(event.target.value)} />
          </Field>
        )}
        <Field label="Account profile" htmlFor="user-profile" hint="Lock-out, password history, sessions at a time.">
          <select id="user-profile" value={profile} disabled={readOnly} onChange={(event) => setProfile(event.target.value)}>
            {!profile && <option value="">The usual one</option>}
            {profiles.map((one) => <option key={one}>{one}</option>)}
          </select>
        </Field>
      </div>
      <Switch id="user-active" label="May sign in" checked={active} disabled={readOnly || stored?.username === user} onChange={setActive} />
      <Switch id="user-superuser" label="Superuser" hint="May do everything in every tenant, whatever the roles below say." checked={superuser} disabled={readOnly} onChange={setSuperuser} />
      <fieldset className="stack">
        <legend>Roles</legend>
        {access.length === 0 && !superuser && <Note tone="warn">Without a role in a tenant this user sees nothing.</Note>}
        {access.map((one, at) => (
          <div className="row" key={at}>
            <select aria-label={`Role ${at + 1}`} value={one.role} disabled={readOnly} onChange={(event) => change(at, { role: event.target.value })}>
              <option value="">Choose a role</option>
              {roles.map((role) => <option key={role}>{role}</option>)}
            </select>
            <span>in</span>
            <select aria-label={`Tenant ${at + 1}`} value={one.tenant} disabled={readOnly} onChange={(event) => change(at, { tenant: event.target.value })}>
              <option>{EVERYWHERE}</option>
              {tenants.map((tenant) => <option key={tenant}>{tenant}</option>)}
            </select>
            {!readOnly && <button type="button" className="icon" aria-label={`Remove role ${at + 1}`} onClick={() => setAccess(access.filter((_, n) => n !== at))}><Icon name="trash" size={16} /></button>}
          </div>
        ))}
        {!readOnly && <div><Button onClick={() => setAccess([...access, { tenant: tenants[0] ?? "admin", role: "" }])}><Icon name="plus" /> Add a role</Button></div>}
      </fieldset>
      {foot(Boolean(name && whole && (stored || password)), done)}
    </div>
  );
}

// --- roles ---

const NONE = "NO_ACCESS";
const LEVELS: [string, string][] = [
  [NONE, "None"],
  ["READ_ACCESS", "Read"],
  ["WRITE_ACCESS", "Write"],
];
const PREFIX = "PERMISSION_";

function levelsOf(role: Document | null): Map<string, string> {
  return new Map((role?.privileges ?? []).map((one: Document) => [one.resource, one.type]));
}

export const ROLE_COLUMNS: Column<Document>[] = [
  {
    id: "may",
    title: "May",
    width: "2fr",
    cell: (one) => {
      const levels = [...levelsOf(one).values()];
      const count = (level: string) => levels.filter((given) => given === level).length;
      return <span className="muted">{`write ${count("WRITE_ACCESS")} kinds of things, read ${count("READ_ACCESS")} more`}</span>;
    },
  },
];

export function RoleForm({ stored, readOnly, save, foot }: FormProps) {
  const schema = useGet<{ fields: Schema }>("/api/console/schema/role");
  const [name, setName] = useState<string>(stored?.name ?? "");
  const [levels, setLevels] = useState(() => levelsOf(stored));
  const [text, setText] = useState("");
  const all = schema.data?.fields.privileges?.item?.fields?.resource?.enum ?? [];
  const shown = all.filter((one) => label(one).toLowerCase().includes(text.toLowerCase()));
  const set = (resources: string[], level: string) => setLevels(new Map([...levels, ...resources.map((one) => [one, level] as [string, string])]));
  const done = () => {
    const kept = new Map((stored?.privileges ?? []).map((one: Document) => [one.resource, one]));
    const privileges = [...levels].map(([resource, type]) => ({ ...(kept.get(resource) ?? {}), resource, type }));
    save(() => written("role", stored, { name, privileges }));
  };
  return (
    <div className="stack">
      <Field label="Name" htmlFor="role-name"><input id="role-name" value={name} disabled={readOnly} onChange={(event) => setName(event.target.value)} /></Field>
      <div className="row">
        <Search value={text} onChange={setText} placeholder="Find a permission" />
        <span className="spread" />
        {!readOnly && (
          <span className="row">
            <span className="muted">{text ? "Those shown:" : "All:"}</span>
            {LEVELS.map(([level, word]) => <Button key={level} onClick={() => set(shown, level)}>{word}</Button>)}
          </span>
        )}
      </div>
      <div className="levels">
        {shown.map((resource) => (
          <fieldset key={resource} className="level-row" disabled={readOnly}>
            <legend>{label(resource)}</legend>
            {LEVELS.map(([level, word]) => (
              <label key={level}>
                <input type="radio" name={resource} checked={(levels.get(resource) ?? NONE) === level} onChange={() => set([resource], level)} /> {word}
              </label>
            ))}
          </fieldset>
        ))}
        {schema.data && shown.length === 0 && <p className="muted">No permission is called so.</p>}
      </div>
      {foot(Boolean(name), done)}
    </div>
  );
}

function label(resource: string): string {
  const words = resource.replace(PREFIX, "").toLowerCase().replaceAll("_", " ");
  return KNOWN[words] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

const KNOWN: Record<string, string> = {
  virtualservice: "Virtual services",
  "virtualservice maintenance": "Scale and migrate virtual services",
  pool: "Pools",
  "pool maintenance": "Enable and disable servers of pools",
  poolgroup: "Pool groups",
  healthmonitor: "Health monitors",
  networkprofile: "Network profiles",
  applicationprofile: "Application profiles",
  httppolicyset: "HTTP policies",
  networksecuritypolicy: "Network security policies",
  ipaddrgroup: "Address groups",
  stringgroup: "String groups",
  sslprofile: "TLS profiles",
  sslkeyandcertificate: "Certificates and keys",
  pkiprofile: "PKI profiles (authorities)",
  applicationpersistenceprofile: "Persistence profiles",
  analyticsprofile: "Analytics profiles",
  authprofile: "Sign-in profiles",
  authmappingprofile: "Sign-in mappings",
  serviceengine: "Service engines",
  serviceenginegroup: "Service engine groups",
  systemconfiguration: "System settings",
  controller: "Controller, backup and clusters",
  vrfcontext: "VRF contexts",
  cloud: "Clouds",
  network: "Networks",
  tenant: "Tenants",
  user: "Users",
  role: "Roles",
  alertconfig: "Alerts",
  actiongroupconfig: "Alert recipients",
  alertemailconfig: "Alert mail",
  alertsyslogconfig: "Alert syslog",
  "traffic capture": "Packet captures",
  techsupport: "Tech support",
};
