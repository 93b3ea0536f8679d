// What the network lets the engines of a group do, tried by two of them: before go-live, or when something is odd.

import { useState } from "react";
import { call, type Document } from "../core/api";
import { useAttempt } from "../core/attempt";
import type { Tone } from "../core/format";
import { Button, Dialog, Fault, Field, Note, Pill } from "../ui/basics";

const ANSWERS: Record<string, [string, Tone]> = { yes: ["yes", "ok"], no: ["no", "bad"], unknown: ["not known", "off"] };
/** A no that costs nothing by itself. */
const NO_MATTER = ["tunnel_mtu"];

export function PreflightDialog({ uuid, name, onClose }: { uuid: string; name: string; onClose: () => void }) {
  const [address, setAddress] = useState("");
  const [neighbour, setNeighbour] = useState("");
  const [report, setReport] = useState<Document | null>(null);
  const { busy, fault, attempt } = useAttempt();
  const run = () =>
    attempt(async () => {
      setReport((await call("POST", `/api/serviceenginegroup/${uuid}/preflight`, { ...(address && { address }), ...(neighbour && { neighbour }) })).data);
    });
  return (
    <Dialog title={`What the network allows: ${name}`} wide onClose={onClose} actions={<><Button onClick={onClose}>Close</Button><Button kind="primary" busy={busy} onClick={run}>{report ? "Try again" : busy ? "Trying" : "Try it"}</Button></>}>
      {!report && <p>For some six seconds two engines of the group speak from an address that nobody has, move it from one to the other and back, and see whom a neighbour answers. No virtual service and no connection is touched.</p>}
      <div className="form">
        <Field label="Address to try with" htmlFor="preflight-address" hint="Empty: a free one of the VIPs' networks."><input id="preflight-address" value={address} inputMode="decimal" onChange={(event) => setAddress(event.target.value.trim())} /></Field>
        <Field label="Neighbour" htmlFor="preflight-neighbour" hint="Empty: the engines' gateway."><input id="preflight-neighbour" value={neighbour} inputMode="decimal" onChange={(event) => setNeighbour(event.target.value.trim())} /></Field>
      </div>
      {fault && <Fault error={fault} />}
      {report && <Report report={report} />}
    </Dialog>
  );
}

function Report({ report }: { report: Document }) {
  const settings = Object.entries((report.mode.settings ?? {}) as Record<string, Document>).flatMap(([type, fields]) => Object.entries(fields).map(([field, value]) => `${field} ${JSON.stringify(value)} of the ${type}`));
  return (
    <div className="stack" aria-live="polite">
      {report.problem ? (
        <Note tone="bad"><b>It could not be tried.</b> {report.problem}</Note>
      ) : (
        <Note tone={report.mode.name.startsWith("layer 2, direct") ? "ok" : "warn"}>
          <p><b>Use {report.mode.name}.</b> {report.mode.why}</p>
          {settings.length > 0 && <p>Set {settings.join(", ")}.</p>}
        </Note>
      )}
      <p className="muted small">{report.engines.join(" and ")}, with {report.address}, towards {report.neighbour}.</p>
      <table className="plain stacks" aria-label="Checks">
        <thead><tr><th scope="col">What</th><th scope="col">Allowed</th><th scope="col">Seen</th></tr></thead>
        <tbody>
          {(report.checks as Document[]).map((check) => {
            const [word, tone] = ANSWERS[check.ok] ?? [check.ok, "off"];
            return (
              <tr key={check.id}>
                <td>{check.what}</td>
                <td><Pill tone={check.ok === "no" && NO_MATTER.includes(check.id) ? "off" : tone}>{word}</Pill></td>
                <td>{check.found}.{check.means && <p className="muted small">{check.means}</p>}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
