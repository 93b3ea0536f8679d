// A backup takes the place of everything: what is in it, what that would mean, and how far it is.

import { useEffect, useRef, useState } from "react";
import { call, type Document, get } from "../core/api";
import { useAttempt } from "../core/attempt";
import { base64, stamp } from "../core/files";
import { plural } from "../core/format";
import { Button, Command, Dialog, Fault, Field, Loading, Note, Time } from "../ui/basics";

/** A backup takes the place of everything, the running controller too: it is opened and looked into first, and what was there
 * stays beside it. */
export function Restore({ picked }: { picked: File | null }) {
  const [file, setFile] = useState(picked);
  const place = useRef<HTMLElement>(null);
  const [words, setWords] = useState("");
  const [looked, setLooked] = useState<{ into: File; found: Document } | null>(null);
  const found = looked && looked.into === file ? looked.found : null;
  const [asking, setAsking] = useState(false);
  const { busy, fault, attempt, forget } = useAttempt();
  const choose = (chosen: File | null) => {
    setFile(chosen);
    setAsking(false);
    forget();
  };
  useEffect(() => {
    if (!picked) return;
    choose(picked); // what was typed while it was fetched stays
    place.current?.scrollIntoView({ block: "center" });
  }, [picked]);
  const look = () =>
    attempt(async () => {
      setLooked(null);
      const into = file!;
      const { data } = await call("POST", "/api/configuration/opened", { backup: await base64(into), passphrase: words });
      setLooked({ into, found: { ...data, aside: `${data.data_directory}.before-${stamp()}` } });
    });
  const objects = Object.entries((found?.objects ?? {}) as Record<string, number>);
  const count = objects.reduce((sum, [, number]) => sum + number, 0);
  const told = ["VirtualService", "Pool", "ServiceEngineGroup", "SSLKeyAndCertificate", "User"].flatMap((kind) => (found?.objects[kind] ? [`${kind} ${found.objects[kind]}`] : []));
  return (
    <section className="stack" aria-labelledby="restore-backup" ref={place}>
      <h2 id="restore-backup">Restore</h2>
      <p className="muted">A backup takes the place of everything, this controller too. Open the file first: that writes nothing, and says what is in it.</p>
      <div className="row end">
        {file === picked && picked && <b className="breaks">{picked.name}</b>}
        <input key={picked?.name} type="file" aria-label="Backup file" accept=".shoalbackup" onChange={(event) => choose(event.target.files?.[0] ?? null)} />
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
          <div><Button kind="danger" onClick={() => setAsking(true)}>Restore …</Button></div>
          <details>
            <summary>By hand, at the controller</summary>
            <div className="stack tight">
              <p className="muted">The same, when this page can't be reached: as root, in the directory with the file; <code>shoal up</code> with the options that it was started with.</p>
              <Command label="Commands that restore" text={commands(found.data_directory, found.aside, file?.name ?? "FILE")} />
            </div>
          </details>
          {asking && <RestoreDialog file={file!} words={words} madeAt={found.made_at} onClose={() => setAsking(false)} />}
        </>
      )}
    </section>
  );
}

/** What it would do, and then how far it is. The session ends with the controller: the page begins anew with the next one. */
function RestoreDialog({ file, words, madeAt, onClose }: { file: File; words: string; madeAt: number; onClose: () => void }) {
  const [sure, setSure] = useState(false);
  const [since, setSince] = useState("");
  const { busy, fault, attempt } = useAttempt();
  const run = () =>
    attempt(async () => {
      const running = await upSince();
      await call("POST", "/api/configuration/restore", { backup: await base64(file), passphrase: words });
      setSince(running);
    });
  useEffect(() => {
    if (!since) return;
    const timer = setInterval(() => {
      upSince().then((now) => now !== since && location.assign("/"), () => undefined); // silent while nobody answers
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, [since]);
  if (since) {
    return (
      <Dialog title="Restoring" onClose={onClose}>
        <Loading what="The controller begins anew" />
        <p className="muted">Its engines are made anew, too. This page asks you to sign in when it is back, in some seconds.</p>
      </Dialog>
    );
  }
  return (
    <Dialog title="Restore this backup?" onClose={onClose} actions={<><Button onClick={onClose}>Cancel</Button><Button kind="danger" busy={busy} disabled={!sure} onClick={run}>Restore</Button></>}>
      {fault && <Fault error={fault} />}
      <p>All becomes as it was at <Time at={madeAt} />. What was changed since then is gone from the running system; it stays in the controller's data directory.</p>
      <Note tone="bad">
        <ul>
          <li>No virtual service answers until the engines have been made anew.</li>
          <li>Everybody is signed out, and signs in with the password of then.</li>
        </ul>
      </Note>
      <label className="row"><input type="checkbox" checked={sure} onChange={(event) => setSure(event.target.checked)} /> I want this now</label>
    </Dialog>
  );
}

const LOOK_MS = 1000;

async function upSince(): Promise<string> {
  return String((await get("/api/cluster/runtime")).cluster_state.up_since);
}

function commands(directory: string, aside: string, file: string): string {
  const [at, name] = [quoted(directory), quoted(file)];
  return [`shoal down --data-dir ${at}`, `mv ${at} ${quoted(aside)}`, `shoal restore ${name} --data-dir ${at}`, `shoal up --data-dir ${at}`].join("\n");
}

/** For a shell. */
function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
