// Operations > Settings > Backup: everything in a sealed file, those that are kept here, what is in one, and how it is restored.

import { useState } from "react";
import { ApiError, call, type Document, list } from "../core/api";
import { useAttempt } from "../core/attempt";
import { base64, fetched, save, stamp } from "../core/files";
import { plural } from "../core/format";
import { useLoad } from "../core/live";
import { Button, Command, Fault, Field, Loading, Note, Time, toast } from "../ui/basics";

export function Backup() {
  return (
    <div className="stack sections">
      <Make />
      <Kept />
      <Restore />
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
function Kept() {
  const configurations = useLoad<Document[]>("backup configurations", () => list("backupconfiguration", "fields=name"), { on: ["backupconfiguration"] });
  const kept = useLoad<Document[]>("backups", () => list("backup"), { on: ["backup"] });
  const [fault, setFault] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState("");
  const work = async (what: string, deed: () => Promise<void>) => {
    setBusy(what);
    setFault(null);
    try {
      await deed();
    } catch (error) {
      setFault(error as ApiError);
    }
    setBusy("");
  };
  const keep = (name: string) =>
    work(name, async () => {
      await call("POST", "/api/configuration/backup", { backup_config: name });
      toast(`A backup is kept, as ${name} says.`);
      kept.refresh();
    });
  const error = configurations.error ?? kept.error;
  if (error) return <Fault error={error} retry={() => (configurations.refresh(), kept.refresh())} />;
  if (!configurations.data || !kept.data) return <Loading />;
  return (
    <section className="stack" aria-labelledby="kept-backups">
      <h2 id="kept-backups">Kept at the controller</h2>
      {fault && <Fault error={fault} />}
      {configurations.data.length === 0 && <p className="muted">None yet: the controller keeps backups when there is a BackupConfiguration, with a passphrase (<code>shoal shell</code>: <code>configure backupconfiguration</code>).</p>}
      {configurations.data.length > 0 && (
        <div className="row">
          {configurations.data.map((one) => <Button key={one.uuid} busy={busy === one.name} onClick={() => keep(one.name)}>Keep one now, as {one.name} says</Button>)}
        </div>
      )}
      {kept.data.length > 0 && (
        <table className="plain" aria-label="Kept backups">
          <thead><tr><th scope="col">File</th><th scope="col">Made</th><th scope="col"><span className="visually-hidden">What can be done</span></th></tr></thead>
          <tbody>
            {[...kept.data].reverse().map((one) => (
              <tr key={one.uuid}>
                <td className="breaks">{one.file_name}</td>
                <td className="nowrap"><Time at={Date.parse(one.timestamp) / 1000 || 0} /></td>
                <td><Button busy={busy === one.file_name} aria-label={`Fetch ${one.file_name}`} onClick={() => work(one.file_name, async () => save(await fetched(`/api/configuration/backup/${one.file_name}`), one.file_name))}>Fetch</Button></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** A backup takes the place of everything, the running controller too: so it is restored where that one has ended. Here it is
 * opened and looked into, and told how. */
function Restore() {
  const [file, setFile] = useState<File | null>(null);
  const [words, setWords] = useState("");
  const [found, setFound] = useState<Document | null>(null);
  const { busy, fault, attempt, forget } = useAttempt();
  const look = () =>
    attempt(async () => {
      setFound(null);
      const { data } = await call("POST", "/api/configuration/opened", { backup: await base64(file!), passphrase: words });
      setFound({ ...data, aside: `${data.data_directory}.before-${stamp()}` });
    });
  const objects = Object.entries((found?.objects ?? {}) as Record<string, number>);
  const count = objects.reduce((sum, [, number]) => sum + number, 0);
  const told = ["VirtualService", "Pool", "ServiceEngineGroup", "SSLKeyAndCertificate", "User"].flatMap((kind) => (found?.objects[kind] ? [`${kind} ${found.objects[kind]}`] : []));
  return (
    <section className="stack" aria-labelledby="restore-backup">
      <h2 id="restore-backup">Restore</h2>
      <p className="muted">A backup takes the place of everything, this controller too. So it is restored when Shoal is down, by the commands that are shown here once the file has been opened. Opening it writes nothing.</p>
      <div className="row end">
        <input type="file" aria-label="Backup file" accept=".shoalbackup" onChange={(event) => { setFile(event.target.files?.[0] ?? null); setFound(null); forget(); }} />
        <Field label="Its passphrase" htmlFor="restore-words"><input id="restore-words" type="password" autoComplete="off" value={words} onChange={(event) => setWords(event.target.value)} /></Field>
        <Button busy={busy} disabled={!file || !words} onClick={look}>Open it</Button>
      </div>
      {fault && <Fault error={fault} />}
      {found && (
        <>
          <Note tone={found.same_controller ? "ok" : "warn"}>
            <p><b>It is whole, and this is its passphrase.</b> {plural(count, "object")} of <Time at={found.made_at} />, written by Shoal {found.shoal}: {told.join(", ")}.</p>
            {!found.same_controller && <p>It was made by another controller. End that one first: two that announce the same addresses disturb each other.</p>}
          </Note>
          <Note tone="bad">
            <p><b>What these commands do:</b> no virtual service answers from the first of them to the last. What was changed since the backup is gone from the running system; it stays in <code>{found.aside}</code>. People sign in with the passwords of then.</p>
          </Note>
          <p>At the controller, as root, in the directory with the file; <code>shoal up</code> with the options that it was started with:</p>
          <Command label="Commands that restore" text={commands(found.data_directory, found.aside, file?.name ?? "FILE")} />
        </>
      )}
    </section>
  );
}

function commands(directory: string, aside: string, file: string): string {
  const [at, name] = [quoted(directory), quoted(file)];
  return [`shoal down --data-dir ${at}`, `mv ${at} ${quoted(aside)}`, `shoal restore ${name} --data-dir ${at}`, `shoal up --data-dir ${at}`].join("\n");
}

/** For a shell. */
function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function Export() {
  const [fault, setFault] = useState<ApiError | null>(null);
  const run = async () => {
    setFault(null);
    try {
      const data = (await call("GET", "/api/configuration/export")).data;
      save(new Blob([JSON.stringify(data, null, 2)], { type: "application/json" }), `shoal-${stamp()}.json`);
    } catch (error) {
      setFault(error as ApiError);
    }
  };
  return (
    <section className="stack" aria-labelledby="export">
      <h2 id="export">Export</h2>
      {fault && <Fault error={fault} />}
      <p className="muted">The configuration as JSON, with its secrets masked: to read, to compare, to import elsewhere.</p>
      <div><Button onClick={run}>Export the configuration</Button></div>
    </section>
  );
}
