// One service engine: its load, what it serves and would take over, whom it hears.

import { useRef, useState } from "react";
import { type Document, nameOf, uuidOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { engineState, utc } from "../core/format";
import { useGet } from "../core/live";
import { pick, useMetrics } from "../core/metrics";
import { Link } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Fault, Loading, Meter, Missing, Note, Page, Pill, Time } from "../ui/basics";
import { Chart } from "../ui/chart";
import { DrainDialog } from "./DrainDialog";
import { enable } from "./Engines";
import { EventList } from "./EventList";

const METRICS = ["se_stats.avg_cpu_usage", "shoal.haproxy_cpu", "se_if.avg_bandwidth", "se_stats.avg_connections", "shoal.memory"];
const ESTABLISHED = "Established";
const NOTES_SHOWN_MAX = 3;

export default function Engine({ id }: { id: string }) {
  const { data: engine, error, refresh } = useGet<Document>(`/api/serviceengine/${id}?include_name`, { on: ["serviceengine"] });
  const runtime = useGet<Document>(`/api/serviceengine/${id}/runtime`, { on: ["engines", "serviceengine"], every: 5000 });
  const placed = useGet<Document>(`/api/serviceengine/${id}/placement`, { on: ["placements", "engines"], pause: 1000 });
  const measured = useMetrics("serviceengine", id, METRICS);
  const { mayWrite } = useSession();
  const { busy, fault, attempt } = useAttempt();
  const [draining, setDraining] = useState(false);
  const most = useRef(0);
  if (!engine) return error ? <Page title="Service Engine" crumbs={[["Service Engines", "/serviceengines"]]}><Missing error={error} retry={refresh} all="/serviceengines" /></Page> : <Loading />;
  const status: Document = runtime.data?.oper_status ?? {};
  const [word, tone] = engineState(status.state, engine.enable_state);
  const enabled = engine.enable_state === "SE_STATE_ENABLED";
  const group = uuidOf(engine.se_group_ref);
  const held: Document[] = placed.data?.placements ?? [];
  const heir: Document[] = placed.data?.successor_of ?? [];
  const peers: Document[] = runtime.data?.hb_status?.peers ?? [];
  const routers: Document[] = runtime.data?.bgp_peers ?? [];
  const gateways: Document[] = runtime.data?.gateways ?? [];
  const leaving = status.state === "OPER_DISABLING";
  most.current = leaving ? Math.max(most.current, held.length) : 0;
  const switchOn = () =>
    attempt(async () => {
      await enable([id]);
      refresh();
    });
  return (
    <Page
      title={engine.name}
      crumbs={[["Infrastructure", ""], ["Service Engines", "/serviceengines"]]}
      status={status.state && <Pill tone={tone}>{word}</Pill>}
      actions={
        <>
          <Link to={`/map?group=${group}&select=${id}`} className="button">On the map</Link>
          {mayWrite("serviceengine") && <Button busy={busy} onClick={() => (enabled ? setDraining(true) : switchOn())}>{enabled ? "Disable" : "Enable"}</Button>}
        </>
      }
    >
      {fault && <Fault error={fault} />}
      {leaving && (
        <Note tone="info">
          <span className="row"><span className="spinner" aria-hidden /> <b>Its virtual services are moving away</b> <span className="muted">{held.length} left: {held.map((one) => `${one.virtualservices.join(", ")} (${one.state})`).join("; ")}</span></span>
          <Meter value={most.current - held.length} of={most.current} label={`${most.current - held.length} of ${most.current} have moved`} />
        </Note>
      )}
      {placed.data && <p className="lead">{placed.data.answer}</p>}
      {[...new Set(Object.values((runtime.data?.notes ?? {}) as Record<string, string>))].slice(0, NOTES_SHOWN_MAX).map((note) => <Note tone="warn" key={note}>{note}</Note>)}
      {Object.entries(runtime.data?.problems ?? {}).map(([part, why]) => <Note tone="bad" key={part}>{part}: {String(why)}</Note>)}
      <div className="grid-4">
        <Card label="CPU"><Chart title="CPU of one core" height={110} series={[pick(measured.data, METRICS[0]!, "Engine")]} /></Card>
        <Card label="Throughput"><Chart title="Throughput" height={110} series={[pick(measured.data, METRICS[2]!, "eth0")]} /></Card>
        <Card label="Connections"><Chart title="Open connections" height={110} series={[pick(measured.data, METRICS[3]!, "Open")]} /></Card>
        <Card label="Memory"><Chart title="Memory" height={110} series={[pick(measured.data, METRICS[4]!, "Processes")]} /></Card>
      </div>
      <div className="grid-2">
        <Card title={`Serves ${held.length}`}>
          <div className="body stack tight">
            {placed.data && <Meter value={placed.data.slots_used} of={placed.data.slots} label={`${placed.data.slots_used} of ${placed.data.slots} slots used`} />}
            {placed.data && <p className="muted small">{placed.data.slots_used} of {placed.data.slots} slots used</p>}
            <ul className="plain">
              {held.map((one) => (
                <li key={one.vip}>
                  <b>{one.virtualservices.join(", ")}</b> <Pill tone={one.state === "ready" ? "ok" : "wait"}>{one.state === "ready" ? one.role : `${one.role}, ${one.state}`}</Pill>
                  <br />
                  <span className="muted small">{one.why}</span>
                </li>
              ))}
              {held.length === 0 && <li className="muted">Nothing.</li>}
            </ul>
          </div>
        </Card>
        <Card title={`Would take over ${heir.length}`}>
          <div className="body">
            <ul className="plain">
              {heir.map((one) => (
                <li key={one.vip}><b>{one.virtualservices.join(", ")}</b> <span className="muted">from {one.owner}, {one.position === 1 ? "as the first" : `at place ${one.position}`}</span></li>
              ))}
              {heir.length === 0 && <li className="muted">Nothing.</li>}
            </ul>
          </div>
        </Card>
        <Card title="Heartbeats">
          <div className="body">
            {peers.length === 0 && <p className="muted">It hears no other engine: none shares a VIP with it.</p>}
            <table className="plain">
              <tbody>
                {peers.map((peer) => (
                  <tr key={peer.se_ref}>
                    <th scope="row"><Link to={`/serviceengines/${uuidOf(peer.se_ref)}`}>{nameOf(peer.se_ref)}</Link></th>
                    <td><Pill tone={peer.alive ? "ok" : "bad"}>{peer.alive ? "alive" : "silent"}</Pill></td>
                    <td className="num">heard {Math.round(peer.heard_ms_ago)} ms ago</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Card>
        {gateways.length > 0 && <Card title="Gateways">
          <div className="body">
            <table className="plain">
              <tbody>
                {gateways.map((gateway) => (
                  <tr key={gateway.gateway_ip}>
                    <th scope="row">{gateway.gateway_ip}</th>
                    <td><Pill tone={gateway.up ? "ok" : "bad"}>{gateway.up ? "answers" : "lost"}</Pill>{gateway.why && <p className="muted small">{gateway.why}</p>}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Card>}
        {routers.length > 0 && <Card title="Routers, by BGP">
          <div className="body">
            <table className="plain">
              <thead><tr><th scope="col">Router</th><th scope="col">Session</th><th scope="col">BFD</th><th scope="col" className="num">Routes told</th></tr></thead>
              <tbody>
                {routers.map((router) => (
                  <tr key={router.peer_ip}>
                    <th scope="row">{router.peer_ip}</th>
                    <td><Pill tone={router.state === ESTABLISHED ? "ok" : "bad"}>{router.state}</Pill>{router.why && <p className="muted small">{router.why}</p>}</td>
                    <td>{router.bfd || "–"}</td>
                    <td className="num">{router.routes}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Card>}
        <Card title="About">
          <div className="body">
            <dl className="facts">
              <dt>Group</dt><dd>{nameOf(engine.se_group_ref)}</dd>
              <dt>Host</dt><dd>{placed.data?.host ?? "–"}</dd>
              <dt>Made</dt><dd>{placed.data?.why || "–"}</dd>
              <dt>Up since</dt><dd>{runtime.data?.online_since ? <Time at={utc(runtime.data.online_since)} /> : "–"}</dd>
              <dt>Software</dt><dd>{runtime.data?.version ?? "–"}</dd>
              <dt>Last change</dt><dd>{runtime.data?.last_change?.how ? `${runtime.data.last_change.how}, ${runtime.data.last_change.took_ms.toFixed(0)} ms` : "–"}</dd>
            </dl>
          </div>
        </Card>
      </div>
      <Card title="Events"><div className="body"><EventList object={id} size={30} /></div></Card>
      {draining && <DrainDialog engines={[{ uuid: id, name: engine.name }]} onClose={() => setDraining(false)} onDone={refresh} />}
    </Page>
  );
}
