// Operations > Settings: the system, one's own account, backup, and taking a configuration over.

import { useState } from "react";
import { ApiError, call, cookie, currentTenant, type Document, VERSION } from "../core/api";
import { useGet } from "../core/live";
import { setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Fault, Field, Note, Page, Panel, Pill, Tabs, toast } from "../ui/basics";
import { Alerts } from "./Alerts";
import { ObjectForm } from "./ObjectForm";

const TABS: [string, string, string][] = [
  ["system", "System", "systemconfiguration"],
  ["controller", "Controller", "controllerproperties"],
  ["account", "Your account", ""],
  ["alerts", "Alerts", "alertconfig"],
  ["backup", "Backup", "backup"],
  ["import", "Import", "backup"],
];

export default function Settings() {
  const { mayWrite, mayRead } = useSession();
  const tabs = TABS.filter(([, , type]) => !type || mayRead(type)).map(([id, name]): [string, string] => [id, name]);
  const wanted = useQueryParam("tab");
  const tab = tabs.some(([id]) => id === wanted) ? wanted : tabs[0]![0];
  return (
    <Page title="Settings" crumbs={[["Operations", ""]]}>
      <Card label="Settings">
        <Tabs label="Settings" tabs={tabs} current={tab} onChange={(next) => setQuery({ tab: next === "system" ? null : next })} />
        <Panel id={tab}>
          {tab === "system" && <><About /><ObjectForm type="systemconfiguration" readOnly={!mayWrite("systemconfiguration")} /></>}
          {tab === "controller" && <ObjectForm type="controllerproperties" readOnly={!mayWrite("controllerproperties")} />}
          {tab === "account" && <Password />}
          {tab === "alerts" && <Alerts />}
          {tab === "backup" && <Backup />}
          {tab === "import" && <Import />}
        </Panel>
      </Card>
    </Page>
  );
}

function About() {
  const { data } = useGet<Document>("/api/cluster/runtime");
  const state = data?.cluster_state;
  if (!state) return null;
  return (
    <p className="row">
      <Pill tone={String(state.state).startsWith("CLUSTER_UP") ? "ok" : "warn"}>{state.state === "CLUSTER_UP_NO_HA" ? "One controller" : state.state}</Pill>
      <span className="muted">up since {new Date(`${String(state.up_since).replace(" ", "T")}Z`).toLocaleString()}, API {VERSION}</span>
    </p>
  );
}

function Password() {
  const { user } = useSession();
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const [again, setAgain] = useState("");
  const [fault, setFault] = useState<ApiError | null>(null);
  const save = async (event: React.FormEvent) => {
    event.preventDefault();
    setFault(null);
    try {
      await call("PUT", "/api/useraccount", { username: user, old_password: old, password: fresh });
      toast("The password is changed. Your other sessions have ended.");
      setOld("");
      setFresh("");
      setAgain("");
    } catch (error) {
      setFault(error as ApiError);
    }
  };
  return (
    <form className="stack narrow-form" onSubmit={save}>
      <h3>Change the password of {user}</h3>
      {fault && <Fault error={fault} />}
      <Field label="Present password" htmlFor="old"><input id="old" type="password" autoComplete="current-password" value={old} onChange={(event) => setOld(event.target.value)} /></Field>
      <Field label="New password" htmlFor="fresh"><input id="fresh" type="password" autoComplete="new-password" value={fresh} onChange={(event) => setFresh(event.target.value)} /></Field>
      <Field label="New password again" htmlFor="again" error={again && again !== fresh ? "The two are not alike." : undefined}><input id="again" type="password" autoComplete="new-password" value={again} onChange={(event) => setAgain(event.target.value)} /></Field>
      <div><Button kind="primary" type="submit" disabled={!old || !fresh || fresh !== again}>Change</Button></div>
    </form>
  );
}

function Backup() {
  const [words, setWords] = useState("");
  const [again, setAgain] = useState("");
  const [fault, setFault] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    setFault(null);
    try {
      save(await file("/api/configuration/backup", { passphrase: words }), `shoal-${stamp()}.shoalbackup`);
      toast("The backup is saved by your browser. Without its passphrase nobody opens it.");
    } catch (error) {
      setFault(error as ApiError);
    }
    setBusy(false);
  };
  const exported = async () => {
    setFault(null);
    try {
      const data = (await call("GET", "/api/configuration/export")).data;
      save(new Blob([JSON.stringify(data, null, 2)], { type: "application/json" }), `shoal-${stamp()}.json`);
    } catch (error) {
      setFault(error as ApiError);
    }
  };
  return (
    <div className="stack narrow-form">
      {fault && <Fault error={fault} />}
      <h3>Backup</h3>
      <p className="muted">Everything in one file, sealed by a passphrase: configuration, accounts, keys, certificates, events. <code>shoal restore FILE</code> makes a controller of it, on any machine, whole or not at all.</p>
      <Field label="Passphrase" htmlFor="words"><input id="words" type="password" autoComplete="new-password" value={words} onChange={(event) => setWords(event.target.value)} /></Field>
      <Field label="Passphrase again" htmlFor="words-again" hint="Nobody can open the file without it." error={again && again !== words ? "The two are not alike." : undefined}><input id="words-again" type="password" autoComplete="new-password" value={again} onChange={(event) => setAgain(event.target.value)} /></Field>
      <div><Button kind="primary" busy={busy} disabled={!words || words !== again} onClick={run}>Save a backup</Button></div>
      <h3>Export</h3>
      <p className="muted">The configuration as JSON, with its secrets masked: to read, to compare, to import elsewhere.</p>
      <div><Button onClick={exported}>Export the configuration</Button></div>
    </div>
  );
}

function Import() {
  const [configuration, setConfiguration] = useState<Document | null>(null);
  const [name, setName] = useState("");
  const [words, setWords] = useState("");
  const [report, setReport] = useState<Document | null>(null);
  const [fault, setFault] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const ask = async (given: Document, apply: boolean) => {
    setBusy(true);
    setFault(null);
    try {
      const body = { configuration: given, ...(words ? { passphrase: words } : {}), ...(apply ? { apply: true } : {}) };
      const answer = (await call("POST", "/api/configuration/import", body)).data;
      setReport(answer);
      if (apply) toast(answer.sentence ?? "Done.");
    } catch (error) {
      setFault(error as ApiError);
      setReport((error as ApiError).body.report as Document ?? null);
    }
    setBusy(false);
  };
  const chosen = async (files: FileList | null) => {
    const one = files?.[0];
    if (!one) return;
    setName(one.name);
    setReport(null);
    try {
      const given = JSON.parse(await one.text());
      setConfiguration(given);
      await ask(given, false);
    } catch (error) {
      setConfiguration(null);
      setFault(new ApiError(0, `${one.name} is not JSON: ${(error as Error).message}`));
    }
  };
  const objects: Document[] = report?.objects ?? [];
  return (
    <div className="stack">
      <p className="muted">A configuration exported from Shoal, or from an Avi controller. First a report says, object by object, what would come of it; nothing is written before you apply it.</p>
      <div className="row">
        <input type="file" aria-label="Configuration file" accept=".json,application/json" onChange={(event) => chosen(event.target.files)} />
        <Field label="Passphrase, if its secrets are sealed" htmlFor="import-words"><input id="import-words" type="password" autoComplete="off" value={words} onChange={(event) => setWords(event.target.value)} /></Field>
        {configuration && <Button busy={busy} onClick={() => ask(configuration, false)}>Report again</Button>}
        {configuration && report && !report.applied && <Button kind="primary" busy={busy} onClick={() => ask(configuration, true)}>Apply</Button>}
      </div>
      {fault && <Fault error={fault} />}
      {report && <Note tone={report.applied ? "ok" : "info"}><b>{name}</b> {report.sentence}</Note>}
      {objects.length > 0 && (
        <table className="plain">
          <thead><tr><th scope="col">Object</th><th scope="col">Verdict</th><th scope="col">Why</th></tr></thead>
          <tbody>
            {objects.slice(0, 500).map((one, at) => (
              <tr key={at}>
                <td>{one.type} <b>{one.name}</b></td>
                <td className="nowrap">{one.result}{one.action ? `, ${one.action}` : ""}</td>
                <td className="muted small">{[one.why, ...(one.differences ?? []).map((difference: Document) => `${difference.field ?? difference.path}: ${difference.why ?? ""}`)].filter(Boolean).join(" ")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

async function file(path: string, body: Document): Promise<Blob> {
  const response = await fetch(path, { method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json", "X-CSRFToken": cookie("csrftoken"), "X-Avi-Version": VERSION, "X-Avi-Tenant": currentTenant() }, body: JSON.stringify(body) });
  if (!response.ok) {
    const data = await response.json().catch(() => ({}));
    throw new ApiError(response.status, data.error ?? response.statusText, data.problems ?? []);
  }
  return response.blob();
}

function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function stamp(): string {
  return new Date().toISOString().slice(0, 16).replace(/[T:]/g, "-");
}
