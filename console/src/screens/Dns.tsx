// Operations > Settings > DNS: the servers that are told the names of virtual services, and which of them the cloud uses.

import { useState } from "react";
import { call, type Document, list, nameOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useLoad } from "../core/live";
import { useSession } from "../core/session";
import { Fault, Field, Loading, Names, Note } from "../ui/basics";
import { type Column } from "../ui/table";
import { type FormProps, Objects, useNames, written } from "./Objects";

const TYPE = "ipamdnsproviderprofile";
const CUSTOM_DNS = "IPAMDNS_TYPE_CUSTOM_DNS";
const ALGORITHMS = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];
const PORT = "53";
const TTL_S = "30";

export function Dns() {
  return (
    <div className="stack sections">
      <Objects type={TYPE} noun="DNS profile" about="A DNS server that takes updates (RFC 2136), and the zones it is asked to change." first="With one, virtual services have names: they are published while the service is enabled, and withdrawn with it." columns={COLUMNS} Form={ProfileForm} />
      <Uses />
    </div>
  );
}

/** Which profile the cloud's virtual services are published by. */
function Uses() {
  const { data, error, refresh } = useLoad<Document[]>("clouds", () => list("cloud", "include_name"), { on: ["cloud"] });
  const names = useNames(TYPE);
  const { mayWrite } = useSession();
  const { busy, fault, attempt } = useAttempt();
  if (error && !data) return <Fault error={error} retry={refresh} />;
  if (!data) return <Loading />;
  const choose = (cloud: Document, name: string) =>
    attempt(async () => {
      const path = `/api/cloud/${cloud.uuid}`;
      await (name ? call("PATCH", path, { replace: { dns_provider_ref: `/api/${TYPE}?name=${encodeURIComponent(name)}` } }) : call("PATCH", path, { delete: { dns_provider_ref: cloud.dns_provider_ref } }));
      refresh();
    });
  return (
    <section className="stack narrow-form" aria-labelledby="dns-uses">
      <h2 id="dns-uses">Which of them is used</h2>
      {fault && <Fault error={fault} />}
      {data.map((cloud) => (
        <Field key={cloud.uuid} label={`Names of ${cloud.name} are published by`} htmlFor={`dns-${cloud.uuid}`} hint="A virtual service gets its names in its wizard, or in dns_info of its VIP.">
          <select id={`dns-${cloud.uuid}`} value={nameOf(cloud.dns_provider_ref)} disabled={busy || !mayWrite("cloud")} onChange={(event) => choose(cloud, event.target.value)}>
            <option value="">Nobody</option>
            {names.map((name) => <option key={name}>{name}</option>)}
          </select>
        </Field>
      ))}
    </section>
  );
}

function given(profile: Document | null, name: string): string {
  return String((profile?.custom_profile?.dynamic_params ?? []).find((one: Document) => one.name === name)?.value ?? "");
}

const COLUMNS: Column<Document>[] = [
  { id: "server", title: "Server", width: "minmax(120px, 1fr)", by: (one) => given(one, "server"), cell: (one) => (one.type === CUSTOM_DNS ? `${given(one, "server")} port ${given(one, "port") || PORT}` : <span className="muted">not one that takes updates</span>) },
  { id: "zones", title: "Zones", width: "minmax(110px, 1.4fr)", cell: (one) => (one.custom_profile?.usable_domains ?? []).join(", ") },
  { id: "key", title: "Signed by", width: "minmax(90px, 1fr)", hideNarrow: true, cell: (one) => given(one, "key_name") || <span className="worse">nothing</span> },
];

export function ProfileForm({ stored, readOnly, save, foot }: FormProps) {
  const custom: Document = stored?.custom_profile ?? {};
  const [name, setName] = useState<string>(stored?.name ?? "");
  const [zones, setZones] = useState<string[]>(custom.usable_domains ?? []);
  const [typed, setTyped] = useState<Record<string, string>>(() => ({
    server: given(stored, "server"),
    port: given(stored, "port") || PORT,
    key_name: given(stored, "key_name"),
    algorithm: given(stored, "algorithm") || ALGORITHMS[0]!,
    ttl: given(stored, "ttl") || TTL_S,
  }));
  const [secret, setSecret] = useState("");
  const field = (one: string) => ({ id: `dns-${one}`, value: typed[one], disabled: readOnly, onChange: (event: { target: { value: string } }) => setTyped((was) => ({ ...was, [one]: event.target.value.trim() })) });
  const done = () => {
    const params = Object.entries(typed).filter(([one, value]) => value && (one !== "algorithm" || typed.key_name));
    const kept = typed.key_name ? secret || custom.tsig_secret : "";
    const profile: Document = { ...custom, usable_domains: zones, dynamic_params: params.map(([one, value]) => ({ name: one, value })), ...(kept ? { tsig_secret: kept } : {}) };
    if (!kept) delete profile.tsig_secret;
    save(() => written(TYPE, stored, { name, type: CUSTOM_DNS, custom_profile: profile }));
  };
  if (stored && stored.type !== CUSTOM_DNS) return <><Note>Only servers that take updates are asked. What this profile holds is under Every field.</Note>{foot(false, done)}</>;
  return (
    <div className="stack">
      <div className="form">
        <Field label="Name" htmlFor="dns-name"><input id="dns-name" value={name} disabled={readOnly} onChange={(event) => setName(event.target.value)} /></Field>
        <Field label="Zones" htmlFor="dns-zones" hint="Such as example.org, Enter after each."><Names id="dns-zones" values={zones} disabled={readOnly} onChange={setZones} /></Field>
        <Field label="Address of the server" htmlFor="dns-server"><input {...field("server")} placeholder="192.0.2.53" inputMode="decimal" /></Field>
        <Field label="Port" htmlFor="dns-port"><input {...field("port")} type="number" min={1} max={65535} /></Field>
        <Field label="Time to live" htmlFor="dns-ttl" unit="s" hint="How long others may remember an answer."><input {...field("ttl")} type="number" min={1} /></Field>
      </div>
      <fieldset disabled={readOnly}>
        <legend>Key that signs updates (TSIG)</legend>
        <div className="form">
          <Field label="Key name" htmlFor="dns-key_name" hint="Empty: updates are not signed."><input {...field("key_name")} autoCapitalize="none" /></Field>
          <Field label="Algorithm" htmlFor="dns-algorithm"><select {...field("algorithm")}>{ALGORITHMS.map((one) => <option key={one}>{one}</option>)}</select></Field>
          <Field label="Secret" htmlFor="dns-secret" hint={custom.tsig_secret ? "One is set. Empty: it stays." : "As tsig-keygen prints it. It is sealed at once and never shown again."} wide><input id="dns-secret" type="password" autoComplete="new-password" value={secret} onChange={(event) => setSecret(event.target.value.trim())} /></Field>
        </div>
      </fieldset>
      {foot(Boolean(name && zones.length && typed.server), done)}
    </div>
  );
}
