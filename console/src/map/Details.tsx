// Beside the map: the tile or the engine one has clicked, and why it is where it is.

import { call, type Document } from "../core/api";
import { useAttempt } from "../core/attempt";
import { state as stateOf } from "../core/format";
import { useGet } from "../core/live";
import { Link } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Fault, Loading, Pill, Time, toast } from "../ui/basics";
import type { GroupMap, MapEngine, MapVip } from "./model";

export function Details({ map, id, onClose }: { map: GroupMap; id: string; onClose: () => void }) {
  const engine = map.engines.find((one) => one.uuid === id);
  const vip = map.vips.find((one) => one.id === id);
  const close = <Button kind="quiet" onClick={onClose}>Close</Button>;
  return (
    <aside className="map-panel" aria-label="Details">
      {engine ? (
        <EngineDetails engine={engine} close={close} />
      ) : vip ? (
        <VipDetails map={map} vip={vip} close={close} />
      ) : (
        <Card title="Gone" actions={close}>
          <p className="body muted">It is not on the map any more.</p>
        </Card>
      )}
    </aside>
  );
}

function EngineDetails({ engine, close }: { engine: MapEngine; close: React.ReactNode }) {
  const { data } = useGet<Document>(`/api/serviceengine/${engine.uuid}/placement`, { on: ["placements", "engines"], pause: 1000 });
  const { mayWrite } = useSession();
  const { busy, fault, attempt } = useAttempt();
  const [word, tone] = stateOf(engine.state);
  const enabled = engine.enable_state === "SE_STATE_ENABLED";
  const change = () =>
    attempt(async () => {
      await call("PATCH", `/api/serviceengine/${engine.uuid}`, { replace: { enable_state: enabled ? "SE_STATE_DISABLED" : "SE_STATE_ENABLED" } });
      toast(enabled ? `${engine.name}: what is on it moves away.` : `${engine.name} is enabled.`);
    });
  return (
    <Card title={engine.name} actions={close}>
      <div className="body stack">
        {fault && <Fault error={fault} />}
        <p><Pill tone={tone}>{word}</Pill> <span className="muted">{engine.reason}</span></p>
        <dl className="facts">
          <dt>Host</dt>
          <dd>{engine.host}</dd>
          <dt>CPU</dt>
          <dd>{engine.cpu_percent} %</dd>
          {engine.why && (
            <>
              <dt>Made</dt>
              <dd>{engine.why}</dd>
            </>
          )}
        </dl>
        {data && <p>{data.answer}</p>}
        <div className="row">
          <Link to={`/serviceengines/${engine.uuid}`} className="button">Open</Link>
          {mayWrite("serviceengine") && <Button busy={busy} onClick={change}>{enabled ? "Disable" : "Enable"}</Button>}
        </div>
        {data?.placements?.length > 0 && (
          <ul className="plain small">
            {data!.placements.map((one: Document) => (
              <li key={one.vip}>
                <b>{one.virtualservices.join(", ")}</b> {one.role}{one.state === "ready" ? "" : `, ${one.state}`}
                <br />
                <span className="muted">{one.why}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
    </Card>
  );
}

function VipDetails({ map, vip, close }: { map: GroupMap; vip: MapVip; close: React.ReactNode }) {
  const service = vip.services[0];
  const { data } = useGet<Document>(service ? `/api/virtualservice/${service}/placement` : null, { on: ["placements", "engines"], pause: 1000 });
  const mine = data?.vips?.find((one: Document) => one.vip === vip.id) ?? data?.vips?.[0];
  const name = (place: number) => map.engines[place]?.name ?? "?";
  const heirs = vip.succession.slice(1);
  return (
    <Card title={vip.name} actions={close}>
      <div className="body stack">
        <dl className="facts">
          <dt>Address</dt>
          <dd>{vip.address}</dd>
          <dt>On</dt>
          <dd>
            {vip.placements.length === 0 && <span className="worse">no engine</span>}
            {vip.placements.map((place, at) => (
              <div key={place}>{name(place)} <span className="muted">{vip.roles[at] === "P" ? "primary" : "secondary"}{vip.states[at] === "ready" ? "" : `, ${vip.states[at]}`}</span></div>
            ))}
          </dd>
          <dt>{vip.standby ? "Standby" : "Next"}</dt>
          <dd>{heirs.map(name).join(" → ") || "nobody"}</dd>
        </dl>
        {!data && <Loading />}
        {mine && <p>{mine.answer ?? data?.answer}</p>}
        {vip.reason && <p className="worse">{vip.reason}</p>}
        {service && <div><Link to={`/virtualservices/${service}`} className="button">Open</Link></div>}
        <Decisions decisions={mine?.decisions ?? []} />
      </div>
    </Card>
  );
}

export function Decisions({ decisions }: { decisions: Document[] }) {
  if (!decisions.length) return null;
  return (
    <div className="stack tight">
      <h3>Why</h3>
      <ol className="timeline">
        {[...decisions].reverse().map((one, at) => (
          <li key={at}>
            <span className="muted small"><Time at={one.at} /></span>
            <span>
              <b>{one.what}{one.serviceengine ? ` ${one.serviceengine}` : ""}</b>: {one.why}
              {one.runner_up && <span className="muted"> Runner-up: {one.runner_up}.</span>}
              {Object.keys(one.excluded ?? {}).length > 0 && <span className="muted"> Not considered: {Object.entries(one.excluded).map(([rule, count]) => `${count} by ${rule}`).join(", ")}.</span>}
            </span>
          </li>
        ))}
      </ol>
    </div>
  );
}
