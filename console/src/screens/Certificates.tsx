// Operations > Certificates: those there are, where each comes from, and when it ends.

import { useState } from "react";
import { call, type Document, list, nameOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { utc } from "../core/format";
import { useLoad } from "../core/live";
import { useSession } from "../core/session";
import { Button, Card, Command, Dialog, Empty, Fault, Field, Icon, Loading, Note, Page, Panel, Pill, Tabs, Time, toast } from "../ui/basics";
import { type Column, Table } from "../ui/table";
import { DeleteDialog } from "./DeleteDialog";
import { EventList } from "./EventList";
import { NewCertificate } from "./NewCertificate";
import { ObjectForm } from "./ObjectForm";

const SOON_DAYS = 30;
const PENDING = "SSL_CERTIFICATE_PENDING";

export default function Certificates() {
  const { data, error, refresh } = useLoad<Document[]>("certificates", () => list("sslkeyandcertificate", "include_name"), { on: ["sslkeyandcertificate"] });
  const { mayWrite } = useSession();
  const [adding, setAdding] = useState(false);
  const [open, setOpen] = useState("");
  const [removing, setRemoving] = useState<Document | null>(null);
  const write = mayWrite("sslkeyandcertificate");
  const columns: Column<Document>[] = [
    { id: "name", title: "Name", width: "minmax(120px, 1fr)", by: (one) => one.name, cell: (one) => <button type="button" className="link" onClick={() => setOpen(one.uuid)}>{one.name}</button> },
    { id: "subject", title: "For", width: "minmax(120px, 1.4fr)", hideNarrow: true, by: names, cell: (one) => <span title={names(one)}>{names(one)}</span> },
    { id: "from", title: "Comes from", width: "minmax(110px, 1fr)", hideNarrow: true, by: origin, cell: origin },
    { id: "until", title: "Valid until", width: "172px", hideNarrow: true, by: (one) => one.certificate?.not_after ?? "", cell: (one) => (isAwaited(one) || !one.certificate?.not_after ? "–" : <Time at={utc(one.certificate.not_after)} />) },
    { id: "left", title: "Left", width: "136px", by: (one) => (isAwaited(one) ? -1 : Number(one.certificate?.days_until_expire ?? 9999)), cell: (one) => <State one={one} /> },
    { id: "key", title: "Key", width: "56px", hideNarrow: true, cell: (one) => (one.key_params?.algorithm ?? "").replace("SSL_KEY_ALGORITHM_", "") || "–" },
    { id: "delete", title: "", width: "44px", cell: (one) => write && <button type="button" className="icon" aria-label={`Delete ${one.name}`} onClick={() => setRemoving(one)}><Icon name="trash" size={16} /></button> },
  ];
  const add = write && <Button kind="primary" onClick={() => setAdding(true)}><Icon name="plus" /> New certificate</Button>;
  const shown = data?.find((one) => one.uuid === open);
  return (
    <Page title="Certificates" crumbs={[["Operations", ""]]} actions={data && data.length > 0 && add}>
      {error && <Fault error={error} retry={refresh} />}
      <Card label="Certificates">
        {!data && !error ? <Loading /> : <Table rows={data ?? []} columns={columns} id={(one) => one.uuid} label="Certificates" sort="name" empty={<Empty title="No certificate yet" action={add}>Virtual services that speak TLS need one: bring one with its key, let one be signed, or get one by ACME.</Empty>} />}
      </Card>
      {adding && <NewCertificate onClose={() => setAdding(false)} onDone={(made) => { setAdding(false); refresh(); if (made.status === PENDING) setOpen(made.uuid); }} />}
      {shown && <Details one={shown} write={write} onClose={() => setOpen("")} onChanged={refresh} />}
      {removing && (
        <DeleteDialog title={`Delete ${removing.name}?`} doomed={[{ name: removing.name, path: `/api/sslkeyandcertificate/${removing.uuid}` }]} onClose={() => setRemoving(null)} onDone={refresh}>
          <p>Its key is deleted with it, and can't be had again.</p>
        </DeleteDialog>
      )}
    </Page>
  );
}

function names(one: Document): string {
  const { subject, subject_alt_names: others } = one.certificate ?? {};
  return [...new Set([subject?.common_name ?? subject?.distinguished_name, ...(others ?? [])].filter(Boolean))].join(", ") || "–";
}

function origin(one: Document): string {
  if (one.certificate_management_profile_ref) return `ACME, ${nameOf(one.certificate_management_profile_ref) || "by its profile"}`;
  if (one.status === PENDING) return "signing request";
  return one.certificate?.self_signed ? "signed by itself" : one.certificate?.issuer?.common_name || one.certificate?.issuer?.distinguished_name || "–";
}

/** What stands in until the authority's is there is signed by itself. */
function isAwaited(one: Document): boolean {
  return one.status === PENDING || Boolean(one.certificate_management_profile_ref && one.certificate?.self_signed);
}

function State({ one }: { one: Document }) {
  if (isAwaited(one)) return <Pill tone="wait">{one.certificate_management_profile_ref ? "being asked for" : "to be signed"}</Pill>;
  const days = one.certificate?.days_until_expire;
  if (days === undefined) return <>–</>;
  const expired = one.certificate.expiry_status === "SSL_CERTIFICATE_EXPIRED";
  return <Pill tone={expired ? "bad" : days < SOON_DAYS ? "warn" : "ok"}>{expired ? "expired" : `${days} day${days === 1 ? "" : "s"}`}</Pill>;
}

function Details({ one, write, onClose, onChanged }: { one: Document; write: boolean; onClose: () => void; onChanged: () => void }) {
  const [tab, setTab] = useState("about");
  const [signed, setSigned] = useState("");
  const { busy, fault, attempt } = useAttempt();
  const users = useLoad<Document[]>(`users of ${one.uuid}`, () => list("virtualservice", `fields=name&refers_to=sslkeyandcertificate:${one.uuid}`), { on: ["virtualservice"] });
  const acme = Boolean(one.certificate_management_profile_ref);
  const request: string = one.certificate?.certificate_signing_request ?? "";
  const work = (deed: () => Promise<string>) =>
    attempt(async () => {
      toast(await deed());
      onChanged();
    });
  const bring = () =>
    work(async () => {
      await call("PATCH", `/api/sslkeyandcertificate/${one.uuid}`, { add: { certificate: { certificate: signed } } });
      setSigned("");
      return `${one.name} has its certificate.`;
    });
  const renew = () => work(async () => (await call("POST", `/api/sslkeyandcertificate/${one.uuid}/renew`)).data.status);
  const { certificate = {} } = one;
  return (
    <Dialog title={one.name} wide onClose={onClose}>
      <Tabs label="About this certificate" tabs={[["about", "About"], ["events", "Events"], ["all", "Every field"]]} current={tab} onChange={setTab} />
      {fault && <Fault error={fault} />}
      <Panel id={tab} bare>
        {tab === "all" && <ObjectForm type="sslkeyandcertificate" id={one.uuid} readOnly={!write} onSaved={onChanged} />}
        {tab === "events" && <EventList object={one.uuid} size={30} />}
        {tab === "about" && (
          <>
            <dl className="facts">
              <dt>State</dt><dd><State one={one} /></dd>
              <dt>For</dt><dd>{names(one)}</dd>
              <dt>Comes from</dt><dd>{origin(one)}</dd>
              {certificate.not_after && !isAwaited(one) && <><dt>Valid</dt><dd><Time at={utc(certificate.not_before ?? "")} /> to <Time at={utc(certificate.not_after)} /></dd></>}
              {certificate.fingerprint && <><dt>Fingerprint</dt><dd className="breaks">{certificate.fingerprint}</dd></>}
              {one.enable_ocsp_stapling && one.ocsp_error_status && <><dt>OCSP</dt><dd>{String(one.ocsp_error_status).replace("OCSP_ERR_", "").replaceAll("_", " ").toLowerCase()}</dd></>}
              <dt>Used by</dt><dd>{users.data ? users.data.map((user) => String(user.name)).join(", ") || "no virtual service yet" : "…"}</dd>
            </dl>
            {acme && write && (
              <>
                {isAwaited(one) && users.data?.length === 0 && <Note tone="warn">The authority asks for proof at port 80 of the virtual service: give the certificate to one that has such a port.</Note>}
                <div className="row"><Button busy={busy} onClick={renew}>Renew now</Button><span className="muted small">By itself when a third of its life is left. What the authority says is under Events.</span></div>
              </>
            )}
            {!acme && one.status === PENDING && (
              <>
                <p><b>To be signed.</b> Give this request to your authority; its key never leaves the controller.</p>
                <Command label="Signing request" text={request.trim()} />
                {write && (
                  <>
                    <Field label="The signed certificate (PEM, with its chain)" htmlFor="signed-pem"><textarea id="signed-pem" className="code" rows={6} value={signed} onChange={(event) => setSigned(event.target.value)} spellCheck={false} placeholder="-----BEGIN CERTIFICATE-----" /></Field>
                    <div><Button kind="primary" busy={busy} disabled={!signed} onClick={bring}>Take it</Button></div>
                  </>
                )}
              </>
            )}
          </>
        )}
      </Panel>
    </Dialog>
  );
}
