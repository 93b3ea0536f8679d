// What a virtual service is made of: every object it refers to, in the order in which it matters to a request, with what each
// does in a few words. Each opens in a dialog with its fields.

import { type ReactNode, useState } from "react";
import { type Document, nameOf, uuidOf } from "../core/api";
import { plural, state as stateOf } from "../core/format";
import { useGet } from "../core/live";
import { useSession } from "../core/session";
import { Dialog, Fault, Loading, Pill } from "../ui/basics";
import { ObjectForm } from "./ObjectForm";

interface Part {
  what: string;
  type: string;
  ref: string;
}

/** Field (of a list: and member) -> what it is to the virtual service, and its type. */
const SINGLE: [string, string, string][] = [
  ["vsvip_ref", "VIP", "vsvip"],
  ["vh_parent_vs_ref", "Parent", "virtualservice"],
  ["application_profile_ref", "Application profile", "applicationprofile"],
  ["network_profile_ref", "Network profile", "networkprofile"],
  ["ssl_profile_ref", "TLS profile", "sslprofile"],
  ["network_security_policy_ref", "Network security policy", "networksecuritypolicy"],
  ["pool_ref", "Pool", "pool"],
  ["pool_group_ref", "Pool group", "poolgroup"],
  ["analytics_profile_ref", "Analytics profile", "analyticsprofile"],
  ["traffic_clone_profile_ref", "Traffic clone profile", "trafficcloneprofile"],
];
const LISTED: [string, string, string, string][] = [
  ["ssl_key_and_certificate_refs", "", "Certificate", "sslkeyandcertificate"],
  ["l4_policies", "l4_policy_set_ref", "L4 policy", "l4policyset"],
  ["http_policies", "http_policy_set_ref", "HTTP policy", "httppolicyset"],
  ["vs_datascripts", "vs_datascript_set_ref", "Script", "vsdatascriptset"],
  ["service_pool_select", "service_pool_ref", "Pool of a port", "pool"],
  ["service_pool_select", "service_pool_group_ref", "Pool group of a port", "poolgroup"],
];
const ORDER = ["VIP", "Parent", "Network profile", "Network security policy", "Certificate", "TLS profile", "Application profile", "HTTP policy", "L4 policy", "Script", "Pool group", "Pool"];

export function partsOf(service: Document): Part[] {
  const found: Part[] = [];
  for (const [field, what, type] of SINGLE) if (service[field]) found.push({ what, type, ref: service[field] });
  for (const [field, member, what, type] of LISTED) {
    const entries = [...((service[field] ?? []) as (Document | string)[])].sort((a, b) => Number((a as Document).index ?? 0) - Number((b as Document).index ?? 0));
    for (const entry of entries) {
      const ref = member ? (entry as Document)[member] : entry;
      if (ref) found.push({ what, type, ref: String(ref) });
    }
  }
  const place = (part: Part) => (ORDER.indexOf(part.what) + ORDER.length + 1) % (ORDER.length + 1);
  return found.sort((a, b) => place(a) - place(b));
}

export function Parts({ id, records }: { id: string; records: Document[] }) {
  const { data, error, refresh } = useGet<Document>(`/api/virtualservice/${id}?include_name`, { on: ["virtualservice"] });
  const [open, setOpen] = useState<Part | null>(null);
  const { mayWrite } = useSession();
  if (error && !data) return <Fault error={error} retry={refresh} />;
  if (!data) return <Loading />;
  return (
    <div className="stack">
      <p className="muted">In the order in which a connection meets them.</p>
      <ul className="parts" aria-label="Parts">
        {partsOf(data).map((part) => (
          <li key={`${part.what} ${part.ref}`}>
            <span className="muted">{part.what}</span>
            <PartLine part={part} service={data} records={records} onOpen={() => setOpen(part)} />
          </li>
        ))}
        {data.enable_rhi && (
          <li>
            <span className="muted">BGP</span>
            <div>Its address is announced to routers, by {data.scaleout_ecmp ? "each engine that serves it" : "its primary alone"}. <span className="muted">How the sessions stand is on each engine's page.</span></div>
          </li>
        )}
      </ul>
      {open && (
        <Dialog title={`${open.what}: ${nameOf(open.ref) || "?"}`} wide onClose={() => setOpen(null)}>
          <ObjectForm type={open.type} id={uuidOf(open.ref)} readOnly={!mayWrite(open.type)} />
        </Dialog>
      )}
    </div>
  );
}

function PartLine({ part, service, records, onOpen }: { part: Part; service: Document; records: Document[]; onOpen: () => void }) {
  const { mayRead } = useSession();
  const { data, error } = useGet<Document>(mayRead(part.type) ? `/api/${part.type}/${uuidOf(part.ref)}?include_name` : null, { on: [part.type] });
  const About = ABOUT[part.type];
  return (
    <div>
      {data ? <button type="button" className="link" onClick={onOpen}>{nameOf(part.ref) || String(data.name)}</button> : <b>{nameOf(part.ref)}</b>}
      {error && <span className="muted small"> {error.message}</span>}
      {data && About && <About stored={data} service={service} records={records} />}
    </div>
  );
}

interface AboutProps {
  stored: Document;
  service: Document;
  records: Document[];
}

const ABOUT: Record<string, (props: AboutProps) => ReactNode> = {
  vsvip: AboutVip,
  pool: AboutPool,
  poolgroup: AboutGroup,
  httppolicyset: AboutHttpPolicy,
  l4policyset: ({ stored }) => <Rules rules={(stored.l4_connection_policy?.rules ?? []).map((rule: Document) => [rule, chosen(rule.action?.select_pool ?? {})])} />,
  networksecuritypolicy: ({ stored }) => <Rules rules={(stored.rules ?? []).map((rule: Document) => [rule, words(rule.action, "NETWORK_SECURITY_POLICY_ACTION_TYPE_")])} />,
  sslkeyandcertificate: ({ stored }) => <span className="muted"> {[stored.certificate?.subject?.common_name, stored.certificate?.not_after && `valid until ${stored.certificate.not_after} UTC`].filter(Boolean).join(", ")}</span>,
  applicationprofile: ({ stored }) => <span className="muted"> {words(stored.type, "APPLICATION_PROFILE_TYPE_")}</span>,
  networkprofile: ({ stored }) => <span className="muted"> {words(stored.profile?.type, "PROTOCOL_TYPE_")}</span>,
  analyticsprofile: ({ stored }) => <span className="muted"> {streamed(stored) || "client logs stay at the controller"}</span>,
};

function AboutVip({ stored, records }: AboutProps) {
  const addresses = ((stored.vip ?? []) as Document[]).flatMap((vip) => [vip.ip_address?.addr, vip.ip6_address?.addr].filter(Boolean));
  return (
    <>
      <span className="muted"> {addresses.join(", ")}</span>
      {records.map((record) => (
        <p key={`${record.fqdn} ${record.type}`} className="row small">
          <b>{record.fqdn}</b> <span className="muted">{record.type} {(record.values ?? []).join(", ")}</span>
          <Pill tone={DNS[record.state] ?? "wait"}>{record.state === "published" ? "in DNS" : record.state}</Pill>
          {record.reason && <span className="muted">{record.reason}</span>}
        </p>
      ))}
    </>
  );
}

const DNS: Record<string, "ok" | "bad"> = { published: "ok", failing: "bad" };

function AboutPool({ stored }: AboutProps) {
  const { data } = useGet<Document>(`/api/pool/${stored.uuid}/runtime`, { on: ["engines"], every: 5000 });
  return <span className="muted"> {words(stored.lb_algorithm, "LB_ALGORITHM_")}{data && `, ${data.num_servers_up} of ${plural(data.num_servers, "server")} up`}{stored.health_monitor_refs?.length ? `, probed by ${stored.health_monitor_refs.map(nameOf).join(", ")}` : ", not probed"}</span>;
}

function AboutGroup({ stored }: AboutProps) {
  const { data } = useGet<Document>(`/api/poolgroup/${stored.uuid}/runtime`, { on: ["engines"], every: 5000 });
  return (
    <ul className="plain small">
      {((data?.members ?? []) as Document[]).map((member) => {
        const [word, tone] = stateOf(member.oper_status.state);
        return <li key={member.pool_ref} className="row"><b>{nameOf(member.pool_ref)}</b> <Pill tone={tone}>{word}</Pill> <span className="muted">priority {member.priority}, ratio {member.ratio}, {plural(member.num_servers_up, "server")} up</span></li>;
      })}
    </ul>
  );
}

function AboutHttpPolicy({ stored }: AboutProps) {
  const kinds = ["http_security_policy", "http_request_policy", "http_response_policy"];
  return <Rules rules={kinds.flatMap((kind) => ((stored[kind]?.rules ?? []) as Document[]).map((rule): [Document, string] => [rule, http(rule)]))} />;
}

function Rules({ rules }: { rules: [Document, string][] }) {
  if (rules.length === 0) return <span className="muted"> no rule</span>;
  return (
    <ol className="plain small">
      {[...rules].map(([rule, does]) => (
        <li key={`${rule.index} ${rule.name}`}>
          <b>{rule.name}</b> <span className="muted">{[matched(rule.match), does].filter(Boolean).join(" → ")}{rule.enable === false && " (off)"}</span>
        </li>
      ))}
    </ol>
  );
}

/** What a rule looks at, by the names of its matches. */
function matched(match: Document | undefined): string {
  const looked = Object.keys(match ?? {}).filter((name) => match![name] && (!Array.isArray(match![name]) || match![name].length));
  return looked.length ? `by ${looked.map((name) => name.replaceAll("_", " ")).join(", ")}` : "always";
}

function http(rule: Document): string {
  if (rule.redirect_action) return `redirect, ${String(rule.redirect_action.status_code ?? "302").replace("HTTP_REDIRECT_STATUS_CODE_", "")}`;
  if (rule.switching_action) return chosen(rule.switching_action);
  if (rule.action) return words(rule.action.action, "HTTP_SECURITY_ACTION_");
  return [rule.hdr_action?.length && "change headers", rule.rewrite_url_action && "rewrite the URL", rule.loc_hdr_action && "rewrite Location"].filter(Boolean).join(", ");
}

function chosen(action: Document): string {
  const to = nameOf(action.pool_ref) || nameOf(action.pool_group_ref);
  return to ? `to ${to}` : words(action.action ?? action.action_type, "HTTP_SWITCHING_SELECT_");
}

function words(value: unknown, prefix: string): string {
  return String(value ?? "").replace(prefix, "").replaceAll("_", " ").toLowerCase();
}

/** Where client logs go besides, in words; "" = nowhere. */
export function streamed(profile: Document | undefined): string {
  const config = profile?.client_log_streaming_config;
  if (!config?.external_server) return "";
  const way = String(config.protocol ?? "LOG_STREAMING_PROTOCOL_UDP").replace("LOG_STREAMING_PROTOCOL_", "");
  const transport = way.split("_").pop();
  return `client logs go to ${config.external_server}${String(config.external_server).includes(":") ? "" : ` port ${config.external_server_port ?? 514}`} ${way.includes("SYSLOG") ? `by syslog over ${transport}` : `as JSON over ${transport}`}`;
}
