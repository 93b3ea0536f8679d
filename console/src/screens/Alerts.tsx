// Operations > Settings > Alerts: what is worth telling somebody, and who is told how.

import { useState } from "react";
import { ApiError, call, type Document, nameOf, uuidOf } from "../core/api";
import { useGet, useLoad } from "../core/live";
import { useSession } from "../core/session";
import { Field, Note, Pill, toast } from "../ui/basics";
import { type Column } from "../ui/table";
import { EventList } from "./EventList";
import { type FormProps, Objects, useNames, written } from "./Objects";

const EVENTS: [string, string][] = [
  ["SE_DOWN", "a service engine has failed"],
  ["SE_UP", "a service engine is up"],
  ["SE_STORM_STARTED", "many service engines vanished at once"],
  ["CONTROLLER_STALLED", "the controller did not run for a while"],
  ["STORE_UNAVAILABLE", "the controller can store no changes"],
  ["VIP_NO_ANSWER", "nobody answers for a VIP"],
  ["VIP_TWO_ANSWERERS", "two answer for a VIP"],
  ["VIP_STRANGER", "a stranger answers for a VIP"],
  ["VS_SE_HA_COMPROMISED", "a virtual service has fewer engines than it asks for"],
  ["VS_INITIAL_PLACEMENT_FAILED", "a virtual service can't be placed"],
  ["VS_SE_BOOTUP_FAIL", "a new service engine did not come up"],
  ["SE_LOAD_HIGH", "a service engine is near its capacity"],
  ["DELETE_SE_FAIL", "a service engine could not be deleted"],
  ["USER_LOCKED", "a user is locked out"],
  ["USER_LOGIN_FAILED", "somebody failed to sign in"],
  ["CONFIG_CREATE", "an object was made"],
  ["CONFIG_UPDATE", "an object was changed"],
  ["CONFIG_DELETE", "an object was deleted"],
];
const COMPARED: [string, string][] = [
  ["ALERT_OP_GT", "above"],
  ["ALERT_OP_GE", "at or above"],
  ["ALERT_OP_LT", "below"],
  ["ALERT_OP_LE", "at or below"],
];
const LEVELS: [string, string][] = [
  ["ALERT_LOW", "Low"],
  ["ALERT_MEDIUM", "Medium"],
  ["ALERT_HIGH", "High"],
];
const EVENT_SOURCE = "EVENT_LOGS";
const FIGURES = "METRICS";
const SUSTAINED_S = 300;
const UNITS: Record<string, string> = { PERCENT: "%", PER_SECOND: "per second", BITS_PER_SECOND: "bit/s", BYTES_PER_SECOND: "B/s", BYTES: "B", MILLISECONDS: "ms", METRIC_COUNT: "" };

export function Alerts() {
  const { mayRead } = useSession();
  return (
    <div className="stack">
      <h2>When somebody is told</h2>
      <Objects type="alertconfig" noun="alert" about="An event, or a figure that stays beyond a bound." first="The usual first one: tell somebody when a service engine fails (SE_DOWN)." columns={ALERT_COLUMNS} Form={AlertForm} />
      {mayRead("actiongroupconfig") && (
        <>
          <h2>Who is told</h2>
          <Objects type="actiongroupconfig" noun="recipient" about="By mail, syslog or webhook. Mail goes by the server in the system settings." first="An alert needs one." columns={RECIPIENT_COLUMNS} Form={RecipientForm} />
        </>
      )}
      <h2>Raised lately</h2>
      <EventList text="ALERT_RAISED" size={20} none="No alert has been raised." />
    </div>
  );
}

// --- when ---

/** In words; what the form has no words for is said as what it is. */
function when(config: Document): string {
  const rule: Document = config.alert_rule ?? {};
  const joined = rule.operator === "OPERATOR_OR" ? " or " : " and ";
  if (config.source === FIGURES) {
    return (rule.metrics_rule ?? [])
      .map((one: Document) => `${one.metric_id} ${COMPARED.find(([id]) => id === one.metric_threshold?.comparator)?.[1] ?? ""} ${one.metric_threshold?.threshold ?? ""} for ${one.duration || SUSTAINED_S} s`)
      .join(joined);
  }
  const events = (rule.sys_event_rule ?? []).map((one: Document) => `${one.not_cond ? "not " : ""}${EVENTS.find(([id]) => id === one.event_id)?.[1] ?? one.event_id ?? ""}`);
  return [...events, ...(rule.event_match_filter ? [rule.event_match_filter] : [])].join(joined);
}

function Enabled({ config }: { config: Document }) {
  const { mayWrite } = useSession();
  const toggle = async () => {
    try {
      await call("PATCH", `/api/alertconfig/${config.uuid}`, { replace: { enabled: config.enabled === false } });
    } catch (fault) {
      toast((fault as ApiError).message, "bad");
    }
  };
  return <input type="checkbox" role="switch" aria-label={`${config.name} is on`} checked={config.enabled !== false} disabled={!mayWrite("alertconfig")} onChange={toggle} />;
}

const ALERT_COLUMNS: Column<Document>[] = [
  { id: "when", title: "When", width: "minmax(160px, 2fr)", cell: (one) => when(one) },
  { id: "who", title: "Tells", width: "minmax(100px, 1fr)", hideNarrow: true, cell: (one) => nameOf(one.action_group_ref) || <span className="muted">nobody</span> },
  { id: "on", title: "On", width: "60px", cell: (one) => <Enabled config={one} /> },
];

/** Whether the form shows all of a stored rule. */
function simple(config: Document | null): boolean {
  const rule: Document = config?.alert_rule ?? {};
  const one = config?.source === FIGURES ? rule.metrics_rule : rule.sys_event_rule;
  return !config || ((one ?? []).length === 1 && !rule.event_match_filter && !one[0].not_cond && (one[0].event_details ?? []).length === 0);
}

export function AlertForm({ stored, readOnly, save, foot }: FormProps) {
  const rule: Document = stored?.alert_rule ?? {};
  const figure: Document = rule.metrics_rule?.[0] ?? {};
  const [name, setName] = useState<string>(stored?.name ?? "");
  const [source, setSource] = useState<string>(stored?.source ?? EVENT_SOURCE);
  const [event, setEvent] = useState<string>(rule.sys_event_rule?.[0]?.event_id ?? "SE_DOWN");
  const [metric, setMetric] = useState<string>(figure.metric_id ?? "");
  const [comparator, setComparator] = useState<string>(figure.metric_threshold?.comparator ?? "ALERT_OP_GT");
  const [bound, setBound] = useState(String(figure.metric_threshold?.threshold ?? ""));
  const [seconds, setSeconds] = useState(String(figure.duration || SUSTAINED_S));
  const [times, setTimes] = useState(String(stored?.threshold ?? 1));
  const [within, setWithin] = useState(String(stored?.rolling_window ?? 300));
  const [quiet, setQuiet] = useState(String(stored?.throttle ?? 600));
  const [group, setGroup] = useState<string>(nameOf(stored?.action_group_ref));
  const [words, setWords] = useState<string>(stored?.summary ?? "");
  const groups = useNames("actiongroupconfig");
  const metrics = useLoad<Document[]>("metric ids", async (signal) => (await call<Document>("GET", "/api/analytics/metric_id", undefined, signal)).data.results);
  const chosen = (metrics.data ?? []).find((one) => one.name === metric);
  const ready = Boolean(name && group && (source === EVENT_SOURCE ? event : metric && bound !== ""));
  const done = () => {
    const kept = simple(stored)
      ? { alert_rule: source === EVENT_SOURCE ? { sys_event_rule: [{ event_id: event }] } : { metrics_rule: [{ metric_id: metric, duration: Number(seconds), metric_threshold: { comparator, threshold: Number(bound) } }] } }
      : {};
    save(() =>
      written("alertconfig", stored, {
        name,
        source,
        category: stored?.category ?? "REALTIME",
        ...kept,
        threshold: Number(times),
        rolling_window: Number(within),
        throttle: Number(quiet),
        action_group_ref: `/api/actiongroupconfig?name=${encodeURIComponent(group)}`,
        ...(words ? { summary: words } : {}),
      }),
    );
  };
  return (
    <div className="stack">
      <Field label="Name" htmlFor="alert-name"><input id="alert-name" value={name} disabled={readOnly} onChange={(e) => setName(e.target.value)} /></Field>
      {simple(stored) ? (
        <fieldset disabled={readOnly}>
          <legend>When</legend>
          <div className="row apart">
            <label><input type="radio" name="source" checked={source === EVENT_SOURCE} onChange={() => setSource(EVENT_SOURCE)} /> something happens</label>
            <label><input type="radio" name="source" checked={source === FIGURES} onChange={() => setSource(FIGURES)} /> a figure is beyond a bound</label>
          </div>
          {source === EVENT_SOURCE ? (
            <Field label="Event" htmlFor="alert-event" hint={EVENTS.find(([id]) => id === event)?.[1] ?? "As the event log calls it."} wide>
              <input id="alert-event" list="alert-events" value={event} onChange={(e) => setEvent(e.target.value.trim())} />
              <datalist id="alert-events">{EVENTS.map(([id, said]) => <option key={id} value={id}>{said}</option>)}</datalist>
            </Field>
          ) : (
            <div className="form">
              <Field label="Figure" htmlFor="alert-metric" hint={chosen?.description}>
                <select id="alert-metric" value={metric} onChange={(e) => setMetric(e.target.value)}>
                  <option value="">Choose one</option>
                  {(metrics.data ?? []).map((one) => <option key={one.name}>{one.name}</option>)}
                </select>
              </Field>
              <Field label="Is" htmlFor="alert-comparator">
                <select id="alert-comparator" value={comparator} onChange={(e) => setComparator(e.target.value)}>
                  {COMPARED.map(([id, said]) => <option key={id} value={id}>{said}</option>)}
                </select>
              </Field>
              <Field label="Bound" htmlFor="alert-bound" unit={UNITS[chosen?.metric_units ?? ""]}><input id="alert-bound" type="number" value={bound} onChange={(e) => setBound(e.target.value)} /></Field>
              <Field label="All the time for" htmlFor="alert-seconds" unit="s"><input id="alert-seconds" type="number" min={5} value={seconds} onChange={(e) => setSeconds(e.target.value)} /></Field>
            </div>
          )}
        </fieldset>
      ) : (
        <Note>When: {when(stored!)}. This rule has parts that are edited under “Every field” (alert_rule).</Note>
      )}
      <fieldset disabled={readOnly}>
        <legend>How often it takes</legend>
        <div className="grid-3">
          <Field label="At least" htmlFor="alert-times" unit="times"><input id="alert-times" type="number" min={1} value={times} onChange={(e) => setTimes(e.target.value)} /></Field>
          <Field label="Within" htmlFor="alert-within" unit="s"><input id="alert-within" type="number" min={1} value={within} onChange={(e) => setWithin(e.target.value)} /></Field>
          <Field label="Then quiet for" htmlFor="alert-quiet" unit="s" hint="About the same objects."><input id="alert-quiet" type="number" min={0} value={quiet} onChange={(e) => setQuiet(e.target.value)} /></Field>
        </div>
      </fieldset>
      <Field label="Tells" htmlFor="alert-group" hint={groups.length === 0 ? "There is nobody yet: make a recipient first." : undefined}>
        <select id="alert-group" value={group} disabled={readOnly} onChange={(e) => setGroup(e.target.value)}>
          <option value="">Choose a recipient</option>
          {groups.map((one) => <option key={one}>{one}</option>)}
        </select>
      </Field>
      <Field label="In these words" htmlFor="alert-words" hint="Empty: what happened." wide><input id="alert-words" value={words} disabled={readOnly} onChange={(e) => setWords(e.target.value)} /></Field>
      {foot(ready, done)}
    </div>
  );
}

// --- who ---

function Ways({ group }: { group: Document }) {
  const ways = [group.email_config_ref && `mail ${nameOf(group.email_config_ref)}`, group.syslog_config_ref && `syslog ${nameOf(group.syslog_config_ref)}`, group.webhook_url && `webhook ${group.webhook_url}`].filter(Boolean);
  return <>{ways.join(", ") || <span className="muted">the event log only</span>}</>;
}

const RECIPIENT_COLUMNS: Column<Document>[] = [
  { id: "how", title: "By", width: "minmax(160px, 2fr)", cell: (one) => <Ways group={one} /> },
  { id: "level", title: "Level", width: "110px", by: (one) => String(one.level), cell: (one) => <Pill tone={one.level === "ALERT_HIGH" ? "bad" : one.level === "ALERT_MEDIUM" ? "warn" : "info"}>{LEVELS.find(([id]) => id === one.level)?.[1]}</Pill> },
];

export function RecipientForm({ stored, readOnly, save, foot }: FormProps) {
  const mail = useGet<Document>(stored?.email_config_ref ? `/api/alertemailconfig/${uuidOf(stored.email_config_ref)}` : null);
  const syslog = useGet<Document>(stored?.syslog_config_ref ? `/api/alertsyslogconfig/${uuidOf(stored.syslog_config_ref)}` : null);
  const server: Document = syslog.data?.syslog_servers?.[0] ?? {};
  const [typed, setTyped] = useState<Document>({});
  const given = (field: string, usual: unknown): any => typed[field] ?? usual ?? "";
  const set = (field: string) => (event: { target: { value: string } }) => setTyped((was) => ({ ...was, [field]: event.target.value }));
  const name = given("name", stored?.name);
  const addresses = given("mail", mail.data?.to_emails);
  const host = given("host", server.syslog_server);
  const port = given("port", server.syslog_server_port ?? 514);
  const transport = given("transport", server.tls_enable ? "tls" : server.udp === false ? "tcp" : "udp");
  const url = given("url", stored?.webhook_url);
  const secret = given("secret", "");
  const level = given("level", stored?.level ?? "ALERT_HIGH");
  // The recipient and what it refers to are one write: all of it or nothing.
  const done = () =>
    save(() => {
      const changes: Document[] = [];
      const group: Document = { name, level, external_only: stored?.external_only ?? false };
      const beside = (type: string, field: string, present: Document | undefined, wanted: boolean, body: Document) => {
        if (present && !wanted) return void (group[field] = null);
        if (!wanted) return;
        if (present) return void changes.push({ method: "PATCH", type, uuid: present.uuid, body: { replace: body } });
        const named = `${name}-${type.replace("alert", "").replace("config", "")}`;
        changes.push({ method: "POST", type, body: { name: named, ...body } });
        group[field] = `/api/${type}?name=${encodeURIComponent(named)}`;
      };
      beside("alertemailconfig", "email_config_ref", mail.data, Boolean(addresses), { to_emails: addresses });
      const servers = [{ ...server, syslog_server: host, syslog_server_port: Number(port), udp: transport === "udp", tls_enable: transport === "tls" }, ...(syslog.data?.syslog_servers ?? []).slice(1)];
      beside("alertsyslogconfig", "syslog_config_ref", syslog.data, Boolean(host), { syslog_servers: servers });
      if (url || stored?.webhook_url) group.webhook_url = url || null;
      if (secret) group.webhook_secret = secret;
      const set = Object.fromEntries(Object.entries(group).filter(([, value]) => value !== null));
      const gone = Object.fromEntries(Object.entries(group).filter(([, value]) => value === null));
      const body = stored ? { replace: set, ...(Object.keys(gone).length ? { delete: gone } : {}) } : set;
      changes.push(stored ? { method: "PATCH", type: "actiongroupconfig", uuid: stored.uuid, body } : { method: "POST", type: "actiongroupconfig", body });
      return call("POST", "/api/changes", { changes });
    });
  return (
    <div className="stack">
      <div className="form">
        <Field label="Name" htmlFor="who-name"><input id="who-name" value={name} disabled={readOnly} onChange={set("name")} /></Field>
        <Field label="Level" htmlFor="who-level" hint="Of the alerts that come here.">
          <select id="who-level" value={level} disabled={readOnly} onChange={set("level")}>{LEVELS.map(([id, said]) => <option key={id} value={id}>{said}</option>)}</select>
        </Field>
      </div>
      <Field label="Mail to" htmlFor="who-mail" hint="Addresses, with commas between. The mail server is under System." wide><input id="who-mail" value={addresses} disabled={readOnly} placeholder="ops@example.org" onChange={set("mail")} /></Field>
      <fieldset disabled={readOnly}>
        <legend>Syslog</legend>
        <div className="grid-3">
          <Field label="Server" htmlFor="who-host"><input id="who-host" value={host} placeholder="none" onChange={set("host")} /></Field>
          <Field label="Port" htmlFor="who-port"><input id="who-port" type="number" min={1} max={65535} value={port} onChange={set("port")} /></Field>
          <Field label="By" htmlFor="who-transport"><select id="who-transport" value={transport} onChange={set("transport")}><option value="udp">UDP</option><option value="tcp">TCP</option><option value="tls">TLS</option></select></Field>
        </div>
      </fieldset>
      <fieldset disabled={readOnly}>
        <legend>Webhook</legend>
        <Field label="URL" htmlFor="who-url" hint="JSON is sent there by POST." wide><input id="who-url" type="url" value={url} placeholder="https://" onChange={set("url")} /></Field>
        <Field label="Secret" htmlFor="who-secret" hint={stored?.webhook_secret ? "One is set. Empty: it stays." : "Signs what is sent (X-Shoal-Signature)."}><input id="who-secret" type="password" autoComplete="new-password" value={secret} onChange={set("secret")} /></Field>
      </fieldset>
      {foot(Boolean(name), done)}
    </div>
  );
}
