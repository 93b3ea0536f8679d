// A certificate by one of four ways: brought with its key, signed by somebody else, got by ACME, signed by itself.

import { useState } from "react";
import { call, type Document, list } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useLoad } from "../core/live";
import { Button, Dialog, Fault, Field, Note, Panel, Tabs, toast } from "../ui/basics";

const WAYS: [string, string, string][] = [
  ["import", "Bring one", "Import"],
  ["request", "Signing request", "Make the request"],
  ["acme", "By ACME", "Create"],
  ["own", "Self-signed", "Create"],
];
const KEYS: Record<string, [string, Document]> = {
  ec: ["Elliptic curve, P-256", { algorithm: "SSL_KEY_ALGORITHM_EC", ec_params: { curve: "SSL_KEY_EC_CURVE_SECP256R1" } }],
  rsa: ["RSA, 2048 bits", { algorithm: "SSL_KEY_ALGORITHM_RSA", rsa_params: { key_size: "SSL_KEY_2048_BITS" } }],
};
const DAYS = 365;
const LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory";
const SCRIPT = "System-ACME";
const FRESH = "";

export function NewCertificate({ onClose, onDone }: { onClose: () => void; onDone: (made: Document) => void }) {
  const [way, setWay] = useState("import");
  const [name, setName] = useState("");
  const [certificate, setCertificate] = useState("");
  const [key, setKey] = useState("");
  const [common, setCommon] = useState("");
  const [others, setOthers] = useState("");
  const [kind, setKind] = useState("ec");
  const [days, setDays] = useState(String(DAYS));
  const profiles = useLoad<string[]>("ACME profiles", async () => (await list("certificatemanagementprofile", "include_name")).filter((one) => String(one.run_script_ref).endsWith(`#${SCRIPT}`)).map((one) => String(one.name)));
  const [profile, setProfile] = useState<string | null>(null);
  const [authority, setAuthority] = useState({ name: "letsencrypt", url: LETS_ENCRYPT, contact: "" });
  const { busy, fault, attempt, forget } = useAttempt();
  const chosen = profile ?? profiles.data?.[0] ?? FRESH;
  const button = WAYS.find(([id]) => id === way)![2];
  const ready = name && (way === "import" ? certificate && key : common && (way !== "acme" || chosen || (authority.name && authority.url)));
  const body = (): Document => {
    if (way === "import") return { name, key, certificate: { certificate } };
    const names = others.split(/[\s,;]+/).filter(Boolean);
    const wanted: Document = { subject: { common_name: common }, ...(names.length ? { subject_alt_names: names } : {}) };
    if (way === "own") Object.assign(wanted, { self_signed: true, days_until_expire: Number(days) });
    const whole: Document = { name, certificate: wanted, key_params: KEYS[kind]![1] };
    if (way !== "acme") return whole;
    if (chosen) return { ...whole, certificate_management_profile_ref: `/api/certificatemanagementprofile?name=${encodeURIComponent(chosen)}` };
    const params = [{ name: "directory_url", value: authority.url }, ...(authority.contact ? [{ name: "contact", value: authority.contact }] : [])];
    return { ...whole, certificate_management_profile_ref_data: { name: authority.name, run_script_ref: `/api/alertscriptconfig?name=${SCRIPT}`, script_params: params } };
  };
  const save = () =>
    attempt(async () => {
      const given = body();
      // With a profile of its own it is a tree, written as one.
      const made = given.certificate_management_profile_ref_data
        ? await call("POST", "/api/macro", { model_name: "SSLKeyAndCertificate", data: given })
        : await call("POST", "/api/sslkeyandcertificate", given);
      for (const warning of made.warnings) toast(warning, "warn");
      toast(way === "import" ? `${name} is imported.` : way === "acme" ? `${name} is made. Give it to a virtual service with port 80: then it is asked for.` : `${name} is made.`);
      onDone(made.data);
    });
  return (
    <Dialog title="New certificate" wide onClose={onClose} actions={<><Button onClick={onClose}>Cancel</Button><Button kind="primary" busy={busy} disabled={!ready} onClick={save}>{button}</Button></>}>
      <Tabs label="How" tabs={WAYS.map(([id, title]): [string, string] => [id, title])} current={way} onChange={(next) => { setWay(next); forget(); }} />
      {fault && <Fault error={fault} />}
      <Panel id={way} bare>
        <Field label="Name" htmlFor="cert-name" hint="What it is called here."><input id="cert-name" value={name} onChange={(event) => setName(event.target.value)} /></Field>
        {way === "import" ? (
          <>
            <Field label="Certificate (PEM, with its chain)" htmlFor="cert-pem"><textarea id="cert-pem" className="code" rows={7} value={certificate} onChange={(event) => setCertificate(event.target.value)} spellCheck={false} placeholder="-----BEGIN CERTIFICATE-----" /></Field>
            <Field label="Private key (PEM)" htmlFor="cert-key" hint="It is sealed at once and never shown again."><textarea id="cert-key" className="code" rows={7} value={key} onChange={(event) => setKey(event.target.value)} spellCheck={false} autoComplete="off" placeholder="-----BEGIN PRIVATE KEY-----" /></Field>
          </>
        ) : (
          <div className="form">
            <Field label="Host name" htmlFor="cert-common"><input id="cert-common" value={common} placeholder="www.example.com" autoCapitalize="none" onChange={(event) => setCommon(event.target.value.trim())} /></Field>
            <Field label="Further names" htmlFor="cert-others" hint="Names and addresses, with commas between."><input id="cert-others" value={others} autoCapitalize="none" onChange={(event) => setOthers(event.target.value)} /></Field>
            <Field label="Key" htmlFor="cert-kind" hint="Made at the controller, and never shown.">
              <select id="cert-kind" value={kind} onChange={(event) => setKind(event.target.value)}>
                {Object.entries(KEYS).map(([id, [title]]) => <option key={id} value={id}>{title}</option>)}
              </select>
            </Field>
            {way === "own" && <Field label="Valid for" htmlFor="cert-days" unit="days"><input id="cert-days" type="number" min={1} max={3650} value={days} onChange={(event) => setDays(event.target.value)} /></Field>}
            {way === "acme" && (
              <Field label="Authority" htmlFor="cert-profile">
                <select id="cert-profile" value={chosen} onChange={(event) => setProfile(event.target.value)}>
                  {(profiles.data ?? []).map((one) => <option key={one}>{one}</option>)}
                  <option value={FRESH}>Another one</option>
                </select>
              </Field>
            )}
            {way === "acme" && chosen === FRESH && (
              <>
                <Field label="Its name here" htmlFor="acme-name"><input id="acme-name" value={authority.name} onChange={(event) => setAuthority({ ...authority, name: event.target.value })} /></Field>
                <Field label="Directory URL" htmlFor="acme-url"><input id="acme-url" type="url" value={authority.url} onChange={(event) => setAuthority({ ...authority, url: event.target.value.trim() })} /></Field>
                <Field label="Mail address for the authority" htmlFor="acme-contact" hint="It tells you of what goes wrong."><input id="acme-contact" type="email" value={authority.contact} onChange={(event) => setAuthority({ ...authority, contact: event.target.value.trim() })} /></Field>
              </>
            )}
          </div>
        )}
        {way === "request" && <Note>The controller makes the key and the request. Whoever signs it gives you the certificate, which you bring here.</Note>}
        {way === "acme" && <Note>The authority asks for proof over HTTP at port 80 of the virtual service that has this certificate; until then a self-signed one stands in. It is renewed by itself.</Note>}
        {way === "own" && <Note tone="warn">Clients don't trust it unless they are told to: for trying things.</Note>}
      </Panel>
    </Dialog>
  );
}
