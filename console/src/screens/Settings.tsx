// Operations > Settings: the system, one's own account, and what has files of its own beside this one.

import { useState } from "react";
import { call, type Document, VERSION } from "../core/api";
import { useAttempt } from "../core/attempt";
import { utc } from "../core/format";
import { useGet } from "../core/live";
import { setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Fault, Field, Page, Panel, Pill, Tabs, Time, toast } from "../ui/basics";
import { Alerts } from "./Alerts";
import { Backup } from "./Backup";
import { Dns } from "./Dns";
import { Import } from "./Import";
import { ObjectForm } from "./ObjectForm";

const TABS: [string, string, string][] = [
  ["system", "System", "systemconfiguration"],
  ["controller", "Controller", "controllerproperties"],
  ["account", "Your account", ""],
  ["alerts", "Alerts", "alertconfig"],
  ["dns", "DNS", "ipamdnsproviderprofile"],
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
          {tab === "system" && <><About /><ObjectForm type="systemconfiguration" acting readOnly={!mayWrite("systemconfiguration")} /></>}
          {tab === "controller" && <ObjectForm type="controllerproperties" acting readOnly={!mayWrite("controllerproperties")} />}
          {tab === "account" && <Password />}
          {tab === "alerts" && <Alerts />}
          {tab === "dns" && <Dns />}
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
      <span className="muted">up since <Time at={utc(String(state.up_since))} />, API {VERSION}</span>
    </p>
  );
}

function Password() {
  const { user } = useSession();
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const [again, setAgain] = useState("");
  const { busy, fault, attempt } = useAttempt();
  const save = (event: React.FormEvent) => {
    event.preventDefault();
    void attempt(async () => {
      await call("PUT", "/api/useraccount", { username: user, old_password: old, password: fresh });
      toast("The password is changed. Your other sessions have ended.");
      setOld("");
      setFresh("");
      setAgain("");
    });
  };
  return (
    <form className="stack narrow-form" onSubmit={save}>
      <h3>Change the password of {user}</h3>
      {fault && <Fault error={fault} />}
      <Field label="Present password" htmlFor="old"><input id="old" type="password" autoComplete="current-password" value={old} onChange={(event) => setOld(event.target.value)} /></Field>
      <Field label="New password" htmlFor="fresh"><input id="fresh" type="password" autoComplete="new-password" value={fresh} onChange={(event) => setFresh(event.target.value)} /></Field>
      <Field label="New password again" htmlFor="again" error={again && again !== fresh ? "The two are not alike." : undefined}><input id="again" type="password" autoComplete="new-password" value={again} onChange={(event) => setAgain(event.target.value)} /></Field>
      <div><Button kind="primary" type="submit" busy={busy} disabled={!old || !fresh || fresh !== again}>Change</Button></div>
    </form>
  );
}
