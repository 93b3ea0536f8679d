// Operations > Certificates.

import { useState } from "react";
import { ApiError, call, type Document, list } from "../core/api";
import { useLoad } from "../core/live";
import { useSession } from "../core/session";
import { Button, Card, Dialog, Empty, Fault, Field, Icon, Loading, Page, Pill, toast } from "../ui/basics";
import { type Column, Table } from "../ui/table";

const SOON_DAYS = 30;

export default function Certificates() {
  const { data, error, refresh } = useLoad<Document[]>("certificates", () => list("sslkeyandcertificate"), { on: ["sslkeyandcertificate"] });
  const { mayWrite } = useSession();
  const [adding, setAdding] = useState(false);
  const write = mayWrite("sslkeyandcertificate");
  const remove = async (one: Document) => {
    if (!window.confirm(`Delete certificate ${one.name}?`)) return;
    try {
      await call("DELETE", `/api/sslkeyandcertificate/${one.uuid}`);
      toast(`${one.name} is deleted.`);
      refresh();
    } catch (fault) {
      toast((fault as ApiError).message, "bad");
    }
  };
  const columns: Column<Document>[] = [
    { id: "name", title: "Name", width: "minmax(140px, 1fr)", by: (one) => one.name, cell: (one) => <b>{one.name}</b> },
    { id: "subject", title: "Subject", width: "minmax(140px, 1.4fr)", hideNarrow: true, cell: (one) => one.certificate?.subject?.common_name ?? one.certificate?.subject?.distinguished_name ?? "–" },
    { id: "until", title: "Valid until", width: "150px", by: (one) => one.certificate?.not_after ?? "", cell: (one) => one.certificate?.not_after ?? "–" },
    {
      id: "left",
      title: "Left",
      width: "110px",
      by: (one) => Number(one.certificate?.days_until_expire ?? 9999),
      cell: (one) => {
        const days = one.certificate?.days_until_expire;
        return days === undefined ? "–" : <Pill tone={days <= 0 ? "bad" : days < SOON_DAYS ? "warn" : "ok"}>{days <= 0 ? "expired" : `${days} days`}</Pill>;
      },
    },
    { id: "key", title: "Key", width: "90px", hideNarrow: true, cell: (one) => (one.key_params?.algorithm ?? "").replace("SSL_KEY_ALGORITHM_", "") || "–" },
    { id: "delete", title: "", width: "44px", cell: (one) => write && <button type="button" className="icon" aria-label={`Delete ${one.name}`} onClick={() => remove(one)}><Icon name="trash" /></button> },
  ];
  return (
    <Page title="Certificates" crumbs={[["Operations", ""]]} actions={write && <Button kind="primary" onClick={() => setAdding(true)}><Icon name="plus" /> Import</Button>}>
      {error && <Fault error={error} retry={refresh} />}
      <Card label="Certificates">
        {!data && !error ? <Loading /> : <Table rows={data ?? []} columns={columns} id={(one) => one.uuid} label="Certificates" sort="name" empty={<Empty title="No certificate yet" action={write && <Button kind="primary" onClick={() => setAdding(true)}>Import a certificate</Button>}>Virtual services that speak TLS need one, with its key.</Empty>} />}
      </Card>
      {adding && <Import onClose={() => setAdding(false)} onDone={() => { setAdding(false); refresh(); }} />}
    </Page>
  );
}

function Import({ onClose, onDone }: { onClose: () => void; onDone: () => void }) {
  const [name, setName] = useState("");
  const [certificate, setCertificate] = useState("");
  const [key, setKey] = useState("");
  const [fault, setFault] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const save = async () => {
    setBusy(true);
    setFault(null);
    try {
      await call("POST", "/api/sslkeyandcertificate", { name, key, certificate: { certificate } });
      toast(`${name} is imported.`);
      onDone();
    } catch (error) {
      setFault(error as ApiError);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Import a certificate" wide onClose={onClose} actions={<><Button onClick={onClose}>Cancel</Button><Button kind="primary" busy={busy} disabled={!name || !certificate || !key} onClick={save}>Import</Button></>}>
      {fault && <Fault error={fault} />}
      <Field label="Name" htmlFor="cert-name"><input id="cert-name" value={name} onChange={(event) => setName(event.target.value)} /></Field>
      <Field label="Certificate (PEM, with its chain)" htmlFor="cert-pem"><textarea id="cert-pem" className="code" rows={7} value={certificate} onChange={(event) => setCertificate(event.target.value)} spellCheck={false} placeholder="-----BEGIN CERTIFICATE-----" /></Field>
      <Field label="Private key (PEM)" htmlFor="cert-key" hint="It is sealed at once and never shown again."><textarea id="cert-key" className="code" rows={7} value={key} onChange={(event) => setKey(event.target.value)} spellCheck={false} autoComplete="off" placeholder="-----BEGIN PRIVATE KEY-----" /></Field>
    </Dialog>
  );
}
