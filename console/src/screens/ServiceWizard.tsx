// A new virtual service on one screen: address, port, servers. All of it is written at once, or nothing is.

import { useMemo, useState } from "react";
import { call, type Document, list } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useGet, useLoad } from "../core/live";
import { go, Link } from "../core/router";
import { Button, Card, Fault, Field, Note, Page, toast } from "../ui/basics";
import type { Schema } from "./fields";
import { groupNames } from "./Groups";
import { EveryField } from "./ObjectForm";

const KINDS: [string, string, string, number][] = [
  ["http", "HTTP", "Requests are spread over the servers.", 80],
  ["https", "HTTPS", "TLS ends at the engine, by the certificate you choose.", 443],
  ["tcp", "TCP", "Connections are passed on as they are.", 8080],
  ["udp", "UDP", "Flows of datagrams, carried by the kernel.", 53],
];
const SERVER = /^\[?([0-9A-Za-z.:-]+?)\]?(?::(\d{1,5}))?$/;

interface Draft {
  name: string;
  kind: string;
  address: string;
  port: string;
  servers: string;
  serverPort: string;
  group: string;
  monitor: string;
  certificate: string;
  algorithm: string;
  enabled: boolean;
  persistence: string;
  /** In DNS, with spaces between. */
  names: string;
  /** Further fields, by name. */
  service: Document;
  pool: Document;
}

const ALGORITHMS: [string, string][] = [
  ["LB_ALGORITHM_ROUND_ROBIN", "Round robin"],
  ["LB_ALGORITHM_LEAST_CONNECTIONS", "Least connections"],
  ["LB_ALGORITHM_CONSISTENT_HASH", "By the client's address"],
];

export default function ServiceWizard() {
  const groups = useLoad("group names", groupNames);
  const monitors = useLoad("monitors", async () => (await list("healthmonitor")).map((one) => String(one.name)));
  const certificates = useLoad("certificates", async () => (await list("sslkeyandcertificate")).map((one) => String(one.name)));
  const networks = useGet<{ results: Document[] }>("/api/network?page_size=20");
  const [draft, setDraft] = useState<Draft>({ name: "", kind: "http", address: "", port: "80", servers: "", serverPort: "80", group: "", monitor: "", certificate: "", algorithm: "LB_ALGORITHM_ROUND_ROBIN", enabled: true, persistence: "", names: "", service: {}, pool: {} });
  const serviceSchema = useGet<{ fields: Schema }>("/api/console/schema/virtualservice");
  const poolSchema = useGet<{ fields: Schema }>("/api/console/schema/pool");
  const persistences = useLoad("persistences", async () => (await list("applicationpersistenceprofile", "fields=name")).map((one) => String(one.name)));
  const { busy, fault, attempt } = useAttempt();
  const [tried, setTried] = useState(false);
  const set = (change: Partial<Draft>) => setDraft((was) => ({ ...was, ...change }));
  const servers = useMemo(() => draft.servers.split(/[\s,;]+/).filter(Boolean), [draft.servers]);
  const subnets = (networks.data?.results ?? []).flatMap((network) => (network.configured_subnets ?? []).map((subnet: Document) => `${subnet.prefix?.ip_addr?.addr}/${subnet.prefix?.mask}`));
  const wrong = check(draft, servers);
  const web = draft.kind === "http" || draft.kind === "https";
  const shown = (field: string) => (tried ? wrong[field] : undefined) ?? fault?.problems.find((problem) => problem.path.includes(PATHS[field] ?? field))?.why;
  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (Object.keys(wrong).length) return;
    void attempt(async () => {
      const made = await call("POST", "/api/macro", { model_name: "VirtualService", data: body(draft, servers) });
      toast(`${draft.name} is made: it is being placed.`);
      for (const warning of made.warnings) toast(warning, "warn");
      const uuid = made.data.uuid ?? made.data.results?.[0]?.uuid ?? made.data[0]?.uuid;
      go(uuid ? `/virtualservices/${uuid}` : "/virtualservices");
    });
  };
  return (
    <Page title="New Virtual Service" crumbs={[["Applications", ""], ["Virtual Services", "/virtualservices"]]}>
      <form onSubmit={submit} noValidate className="stack wizard">
        {fault && <Fault error={fault} />}
        <Card title="What clients connect to">
          <div className="body form">
            <div className="choices four wide" role="radiogroup" aria-label="Kind">
              {KINDS.map(([id, label, about, port]) => (
                <label className="choice" key={id}>
                  <input type="radio" name="kind" checked={draft.kind === id} onChange={() => set({ kind: id, port: String(port), serverPort: id === "https" ? "80" : String(port) })} />
                  <b>{label}</b>
                  <small>{about}</small>
                </label>
              ))}
            </div>
            <Field label="Name" htmlFor="name" error={shown("name")}>
              <input id="name" value={draft.name} onChange={(event) => set({ name: event.target.value })} />
            </Field>
            <Field label="Service Engine Group" htmlFor="group">
              <select id="group" value={draft.group} onChange={(event) => set({ group: event.target.value })}>
                <option value="">Default-Group</option>
                {(groups.data ?? []).filter(([, name]) => name !== "Default-Group").map(([uuid, name]) => <option key={uuid} value={name}>{name}</option>)}
              </select>
            </Field>
            <Field label="VIP address" htmlFor="address" error={shown("address")} hint={subnets.length ? `An unused address of ${subnets.slice(0, 3).join(", ")}. Leave it empty and one is allocated.` : "Leave it empty and one is allocated."}>
              <input id="address" value={draft.address} inputMode="decimal" placeholder={networks.data ? placeholder(subnets[0]) : ""} onChange={(event) => set({ address: event.target.value.trim() })} />
            </Field>
            <Field label="Port" htmlFor="port" error={shown("port")}>
              <input id="port" type="number" min={1} max={65535} value={draft.port} onChange={(event) => set({ port: event.target.value })} />
            </Field>
            {draft.kind === "https" && (
              <Field label="Certificate" htmlFor="certificate" error={shown("certificate")}>
                <select id="certificate" value={draft.certificate} onChange={(event) => set({ certificate: event.target.value })}>
                  <option value="">Choose one</option>
                  {(certificates.data ?? []).map((name) => <option key={name}>{name}</option>)}
                </select>
              </Field>
            )}
            {draft.kind === "https" && certificates.data?.length === 0 && (
              <Note tone="warn">There is no certificate yet. <Link to="/certificates">Import one</Link> first.</Note>
            )}
          </div>
        </Card>
        <Card title="Where it goes">
          <div className="body form">
            <Field label="Servers" htmlFor="servers" error={shown("servers")} hint="One a line: an address or a name, with a port where it is another one." wide>
              <textarea id="servers" rows={4} value={draft.servers} placeholder={"10.0.0.11\n10.0.0.12:8080"} onChange={(event) => set({ servers: event.target.value })} spellCheck={false} />
            </Field>
            <Field label="Servers' port" htmlFor="server-port" error={shown("serverPort")}>
              <input id="server-port" type="number" min={1} max={65535} value={draft.serverPort} onChange={(event) => set({ serverPort: event.target.value })} />
            </Field>
            <Field label="Health monitor" htmlFor="monitor" hint="Without one every server counts as up.">
              <select id="monitor" value={draft.monitor} onChange={(event) => set({ monitor: event.target.value })}>
                <option value="">None</option>
                {(monitors.data ?? []).map((name) => <option key={name}>{name}</option>)}
              </select>
            </Field>
            <details className="wide">
              <summary>Advanced</summary>
              <div className="form">
                <Field label="Load balancing" htmlFor="algorithm">
                  <select id="algorithm" value={draft.algorithm} onChange={(event) => set({ algorithm: event.target.value })}>
                    {ALGORITHMS.map(([id, name]) => <option key={id} value={id}>{name}</option>)}
                  </select>
                </Field>
                <label className="row"><input type="checkbox" checked={draft.enabled} onChange={(event) => set({ enabled: event.target.checked })} /> Enabled from the start</label>
                <Field label="Clients stay with their server" htmlFor="persistence">
                  <select id="persistence" value={draft.persistence} onChange={(event) => set({ persistence: event.target.value })}>
                    <option value="">No</option>
                    {web && <option value="PERSISTENCE_TYPE_HTTP_COOKIE">By a cookie</option>}
                    <option value="PERSISTENCE_TYPE_CLIENT_IP_ADDRESS">By their address</option>
                    {(persistences.data ?? []).map((name) => <option key={name} value={`=${name}`}>as {name} says</option>)}
                  </select>
                </Field>
                <Field label="Names in DNS" htmlFor="names" error={shown("names")} hint={<>Published by the cloud's DNS profile (<Link to="/settings?tab=dns">Settings, DNS</Link>) while the service is enabled.</>} wide>
                  <input id="names" value={draft.names} placeholder="shop.example.org" autoCapitalize="none" spellCheck={false} onChange={(event) => set({ names: event.target.value })} />
                </Field>
                {[
                  { what: "service" as const, title: "Every field of the virtual service", schema: serviceSchema.data },
                  { what: "pool" as const, title: "Every field of the pool", schema: poolSchema.data },
                ].map(({ what, title, schema }) => (
                  <details className="wide" key={what}>
                    <summary>{title}</summary>
                    <div className="stack">
                      {schema && <EveryField fields={schema.fields} stored={{}} draft={draft[what]} changed={draft[what]} wrong={NOTHING} readOnly={false} prefix={what} without={ABOVE} onChange={(name, value) => set({ [what]: { ...draft[what], [name]: value } })} />}
                    </div>
                  </details>
                ))}
              </div>
            </details>
          </div>
        </Card>
        <div className="actions end">
          <Button onClick={() => go("/virtualservices")}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy}>Create</Button>
        </div>
      </form>
    </Page>
  );
}

const NOTHING = new Map<string | undefined, string>();
/** What has a field of its own. */
const ABOVE = ["name", "services", "vsvip_ref", "pool_ref", "se_group_ref", "servers", "default_server_port", "lb_algorithm", "enabled", "health_monitor_refs", "cloud_ref"];

/** A profile that is there (`=name`), or a new one of that type. */
function persistence(draft: Draft): Document {
  if (!draft.persistence) return {};
  if (draft.persistence.startsWith("=")) return { application_persistence_profile_ref: `/api/applicationpersistenceprofile?name=${encodeURIComponent(draft.persistence.slice(1))}` };
  return { application_persistence_profile_ref_data: { name: `${draft.name.trim()}-persistence`, persistence_type: draft.persistence } };
}

const PATHS: Record<string, string> = { address: "ip_address", servers: "servers", port: "services", names: "dns_info" };

function check(draft: Draft, servers: string[]): Record<string, string> {
  const wrong: Record<string, string> = {};
  const port = (text: string) => /^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;
  if (!draft.name.trim()) wrong.name = "A name is needed.";
  if (draft.address && !/^[0-9a-fA-F:.]+$/.test(draft.address)) wrong.address = "This must be an IPv4 or IPv6 address.";
  if (!port(draft.port)) wrong.port = "This must be 1 to 65535.";
  if (!port(draft.serverPort)) wrong.serverPort = "This must be 1 to 65535.";
  if (servers.length === 0) wrong.servers = "At least one server is needed.";
  const bad = servers.find((server) => !SERVER.test(server));
  if (bad) wrong.servers = `${bad} is no address.`;
  if (draft.kind === "https" && !draft.certificate) wrong.certificate = "Choose a certificate.";
  return wrong;
}

function body(draft: Draft, servers: string[]): Document {
  const six = draft.address.includes(":");
  const vip: Document = { vip_id: "0", ...(draft.address ? { [six ? "ip6_address" : "ip_address"]: { addr: draft.address, type: six ? "V6" : "V4" } } : { auto_allocate_ip: true }) };
  const names = draft.names.split(/[\s,;]+/).filter(Boolean);
  const profiles: Document = draft.kind === "tcp" || draft.kind === "udp" ? { application_profile_ref: "/api/applicationprofile?name=System-L4-Application" } : draft.kind === "https" ? { application_profile_ref: "/api/applicationprofile?name=System-Secure-HTTP" } : {};
  if (draft.kind === "udp") profiles.network_profile_ref = "/api/networkprofile?name=System-UDP-Fast-Path";
  const pool: Document = {
    name: `${draft.name}-pool`,
    default_server_port: Number(draft.serverPort),
    lb_algorithm: draft.algorithm,
    ...(draft.algorithm === "LB_ALGORITHM_CONSISTENT_HASH" ? { lb_algorithm_hash: "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS" } : {}),
    ...(draft.monitor ? { health_monitor_refs: [`/api/healthmonitor?name=${draft.monitor}`] } : {}),
    servers: servers.map((server) => {
      const found = SERVER.exec(server)!;
      const [, host, port] = found as unknown as [string, string, string | undefined];
      const type = host.includes(":") ? "V6" : /^[\d.]+$/.test(host) ? "V4" : "DNS";
      return { ip: { addr: host, type }, ...(port ? { port: Number(port) } : {}) };
    }),
    ...persistence(draft),
    ...draft.pool,
  };
  return {
    name: draft.name.trim(),
    enabled: draft.enabled,
    services: [{ port: Number(draft.port), ...(draft.kind === "https" ? { enable_ssl: true } : {}) }],
    ...(draft.group ? { se_group_ref: `/api/serviceenginegroup?name=${draft.group}` } : {}),
    ...(draft.kind === "https" ? { ssl_key_and_certificate_refs: [`/api/sslkeyandcertificate?name=${draft.certificate}`] } : {}),
    ...profiles,
    ...draft.service,
    vsvip_ref_data: { name: `${draft.name.trim()}-vip`, vip: [vip], ...(names.length ? { dns_info: names.map((fqdn) => ({ fqdn, ...(six ? { type: "DNS_RECORD_AAAA" } : {}) })) } : {}) },
    pool_ref_data: pool,
  };
}

function placeholder(subnet: string | undefined): string {
  return subnet?.includes(".") ? subnet.replace(/\.\d+\/\d+$/, ".10") : "10.0.0.10";
}
