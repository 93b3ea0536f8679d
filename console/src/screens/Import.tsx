// Operations > Settings > Import: a configuration from elsewhere, with a report of every object before anything is written.

import { useState } from "react";
import { ApiError, call, type Document } from "../core/api";
import { useAttempt } from "../core/attempt";
import { Button, Fault, Field, Note, toast } from "../ui/basics";

export function Import() {
  const [configuration, setConfiguration] = useState<Document | null>(null);
  const [name, setName] = useState("");
  const [words, setWords] = useState("");
  const [report, setReport] = useState<Document | null>(null);
  const { busy, fault, attempt } = useAttempt();
  const ask = async (given: Document, apply: boolean) => {
    const body = { configuration: given, ...(words ? { passphrase: words } : {}), ...(apply ? { apply: true } : {}) };
    try {
      const answer = (await call("POST", "/api/configuration/import", body)).data;
      setReport(answer);
      if (apply) toast(answer.sentence ?? "Done.");
    } catch (error) {
      setReport(((error as ApiError).body?.report as Document) ?? null);
      throw error;
    }
  };
  const chosen = (one: File) =>
    attempt(async () => {
      setName(one.name);
      setReport(null);
      setConfiguration(null);
      const given = parsed(one.name, await one.text());
      setConfiguration(given);
      await ask(given, false);
    });
  const objects: Document[] = report?.objects ?? [];
  return (
    <div className="stack">
      <p className="muted">A configuration exported from Shoal, or from an Avi controller. First a report says, object by object, what would come of it; nothing is written before you apply it.</p>
      <div className="row end">
        <input type="file" aria-label="Configuration file" accept=".json,application/json" onChange={(event) => event.target.files?.[0] && chosen(event.target.files[0])} />
        <Field label="Passphrase, if its secrets are sealed" htmlFor="import-words"><input id="import-words" type="password" autoComplete="off" value={words} onChange={(event) => setWords(event.target.value)} /></Field>
        {configuration && <Button busy={busy} onClick={() => attempt(() => ask(configuration, false))}>Report again</Button>}
        {configuration && report && !report.applied && <Button kind="primary" busy={busy} onClick={() => attempt(() => ask(configuration, true))}>Apply</Button>}
      </div>
      {fault && <Fault error={fault} />}
      {report && <Note tone={report.applied ? "ok" : "info"}><b>{name}</b> {report.sentence}</Note>}
      {objects.length > 0 && (
        <table className="plain stacks">
          <thead><tr><th scope="col">Object</th><th scope="col">Verdict</th><th scope="col">Why</th></tr></thead>
          <tbody>
            {objects.slice(0, 500).map((one, at) => (
              <tr key={at}>
                <td>{one.type} <b>{one.name}</b></td>
                <td className="nowrap">{one.result}{one.action && one.action !== "none" ? `, ${one.action}` : ""}</td>
                <td className="muted small">{[one.why, ...(one.differences ?? []).map((difference: Document) => `${difference.field ?? difference.path}: ${difference.why ?? ""}`)].filter(Boolean).join(" ")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

function parsed(name: string, text: string): Document {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError(0, `${name} is not JSON: ${(error as Error).message}`);
  }
}
