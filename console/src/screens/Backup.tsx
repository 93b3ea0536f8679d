// Operations > Settings > Backup: everything in a sealed file, and those that are kept at the controller.

import { useState } from "react";
import { call, type Document, list } from "../core/api";
import { useAttempt } from "../core/attempt";
import { fetched, save, stamp } from "../core/files";
import { useLoad } from "../core/live";
import { useSession } from "../core/session";
import { Button, Fault, Field, Time, toast } from "../ui/basics";
import { type Column } from "../ui/table";
import { type FormProps, Objects, written } from "./Objects";
import { Restore } from "./Restore";

export function Backup() {
  const [picked, setPicked] = useState<File | null>(null);
  return (
    <div className="stack sections">
      <Make />
      <Kept onRestore={setPicked} />
      <Restore picked={picked} />
      <Export />
    </div>
  );
}

function Make() {
  const [words, setWords] = useState("");
  const [again, setAgain] = useState("");
  const { busy, fault, attempt } = useAttempt();
  const run = () =>
    attempt(async () => {
      save(await fetched("/api/configuration/backup", { passphrase: words }), `shoal-${stamp()}.shoalbackup`);
      toast("The backup is saved by your browser. Without its passphrase nobody opens it.");
      setWords("");
      setAgain("");
    });
  return (
    <section className="stack narrow-form" aria-labelledby="make-backup">
      <h2 id="make-backup">Save a backup</h2>
      {fault && <Fault error={fault} />}
      <p className="muted">Everything in one file, sealed by a passphrase: configuration, accounts, keys, certificates, events.</p>
      <Field label="Passphrase" htmlFor="words" hint="8 characters or more."><input id="words" type="password" autoComplete="new-password" value={words} onChange={(event) => setWords(event.target.value)} /></Field>
      <Field label="Passphrase again" htmlFor="words-again" hint="Nobody can open the file without it: keep it elsewhere." error={again && again !== words ? "The two are not alike." : undefined}><input id="words-again" type="password" autoComplete="new-password" value={again} onChange={(event) => setAgain(event.target.value)} /></Field>
      <div><Button kind="primary" busy={busy} disabled={!words || words !== again} onClick={run}>Save a backup</Button></div>
    </section>
  );
}

/** Those that the controller keeps, as its BackupConfigurations say. */
function Kept({ onRestore }: { onRestore: (file: File) => void }) {
  const kept = useLoad<Document[]>("backups", () => list("backup"), { on: ["backup"] });
  const { mayWrite } = useSession();
  const { doing, fault, attempt } = useAttempt();
  const keep = (name: string) =>
    attempt(async () => {
      await call("POST", "/api/configuration/backup", { backup_config: name });
      toast(`A backup is kept, as ${name} says.`);
      kept.refresh();
    }, name);
  const fetch = (one: Document) => fetched(`/api/configuration/backup/${one.file_name}`);
  const columns: Column<Document>[] = [
    { id: "prefix", title: "Files", width: "minmax(90px, 1fr)", hideNarrow: true, by: (one) => one.backup_file_prefix ?? PREFIX, cell: (one) => `${one.backup_file_prefix || PREFIX}-…` },
    { id: "most", title: "Kept", width: "84px", hideNarrow: true, by: (one) => one.maximum_backups_stored, cell: (one) => `newest ${one.maximum_backups_stored}` },
    { id: "now", title: "", width: "136px", cell: (one) => mayWrite("backup") && <Button busy={doing === one.name} onClick={() => keep(one.name)}>Keep one now</Button> },
  ];
  return (
    <section className="stack" aria-labelledby="kept-backups">
      <h2 id="kept-backups">Kept at the controller</h2>
      {fault && <Fault error={fault} />}
      <Objects type="backupconfiguration" noun="backup configuration" about="How backups are kept in the controller's data directory: copy them elsewhere." first="With one, a backup is made by a click here, or by shoal backup --config from cron." columns={columns} Form={ConfigurationForm} />
      {kept.error && <Fault error={kept.error} retry={kept.refresh} />}
      {kept.data && kept.data.length > 0 && (
        <table className="plain stacks" aria-label="Kept backups">
          <thead><tr><th scope="col">File</th><th scope="col">Made</th><th scope="col"><span className="visually-hidden">What can be done</span></th></tr></thead>
          <tbody>
            {[...kept.data].reverse().map((one) => (
              <tr key={one.uuid}>
                <td className="breaks">{one.file_name}</td>
                <td className="nowrap"><Time at={Date.parse(one.timestamp) / 1000 || 0} /></td>
                <td>
                  <span className="row">
                    <Button busy={doing === one.file_name} aria-label={`Fetch ${one.file_name}`} onClick={() => attempt(async () => save(await fetch(one), one.file_name), one.file_name)}>Fetch</Button>
                    <Button aria-label={`Restore ${one.file_name}`} disabled={doing === one.file_name} onClick={() => attempt(async () => onRestore(new File([await fetch(one)], one.file_name)), one.file_name)}>Restore …</Button>
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

const PREFIX = "backup";

function ConfigurationForm({ stored, readOnly, save, foot }: FormProps) {
  const [name, setName] = useState<string>(stored?.name ?? "");
  const [words, setWords] = useState("");
  const [prefix, setPrefix] = useState<string>(stored?.backup_file_prefix ?? PREFIX);
  const [most, setMost] = useState(String(stored?.maximum_backups_stored ?? 4));
  const done = () => save(() => written("backupconfiguration", stored, { name, backup_file_prefix: prefix, maximum_backups_stored: Number(most), save_local: true, ...(words ? { backup_passphrase: words } : {}) }));
  return (
    <div className="stack">
      <div className="form">
        <Field label="Name" htmlFor="keep-name"><input id="keep-name" value={name} disabled={readOnly} onChange={(event) => setName(event.target.value)} /></Field>
        <Field label="Passphrase" htmlFor="keep-words" hint={stored?.backup_passphrase ? "One is set. Empty: it stays." : "8 characters or more. Nobody can open the files without it: keep it elsewhere."}><input id="keep-words" type="password" autoComplete="new-password" value={words} disabled={readOnly} onChange={(event) => setWords(event.target.value)} /></Field>
        <Field label="Files begin with" htmlFor="keep-prefix"><input id="keep-prefix" value={prefix} disabled={readOnly} onChange={(event) => setPrefix(event.target.value)} /></Field>
        <Field label="How many are kept" htmlFor="keep-most" hint="The newest, 1 to 20."><input id="keep-most" type="number" min={1} max={20} value={most} disabled={readOnly} onChange={(event) => setMost(event.target.value)} /></Field>
      </div>
      {foot(Boolean(name && most && (words || stored)), done)}
    </div>
  );
}

function Export() {
  const { busy, fault, attempt } = useAttempt();
  const run = () =>
    attempt(async () => {
      const data = (await call("GET", "/api/configuration/export")).data;
      save(new Blob([JSON.stringify(data, null, 2)], { type: "application/json" }), `shoal-${stamp()}.json`);
    });
  return (
    <section className="stack" aria-labelledby="export">
      <h2 id="export">Export</h2>
      {fault && <Fault error={fault} />}
      <p className="muted">The configuration as JSON, with its secrets masked: to read, to compare, to import elsewhere.</p>
      <div><Button busy={busy} onClick={run}>Export the configuration</Button></div>
    </section>
  );
}
