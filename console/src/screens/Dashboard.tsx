// The fabric at a glance: what may fail, what is down and why, what flows, what happened.

import { useMemo } from "react";
import { MODES, plural, state as stateOf } from "../core/format";
import { total, useMetrics } from "../core/metrics";
import { Link } from "../core/router";
import { Card, Empty, Fault, Icon, Loading, Meter, Page, Pill } from "../ui/basics";
import { Chart } from "../ui/chart";
import { MarginPills } from "../ui/margin";
import { useEngines } from "./Engines";
import { EventList } from "./EventList";
import { type GroupRow, UpgradePill, useGroups } from "./Groups";
import { useServices } from "./Services";

const DOWN_SHOWN_MAX = 8;
const POINTS = 60;

export default function Dashboard() {
  const groups = useGroups();
  const services = useServices();
  const engines = useEngines();
  const traffic = useMetrics("serviceengine", "*", ["se_if.avg_bandwidth", "se_stats.avg_connections"], { points: POINTS });
  const many = (services.data?.count ?? 0) > 1000;
  const requests = useMetrics("virtualservice", "*", ["l7_client.avg_total_requests", "l7_client.avg_error_responses"], { points: POINTS, active: services.data !== undefined && !many });
  const down = useMemo(() => (services.data?.results ?? []).filter((row) => row.enabled && (row.state !== "OPER_UP" || row.assigned < row.requested)), [services.data]);
  const engineTrouble = (engines.data ?? []).filter((engine) => !["OPER_UP", "OPER_DISABLED"].includes(engine.state));
  const error = groups.error && !groups.data ? groups.error : null;
  const up = (services.data?.results ?? []).filter((row) => row.state === "OPER_UP").length;
  return (
    <Page title="Dashboard">
      {error && <Fault error={error} retry={groups.refresh} />}
      <div className="grid-4 figures">
        <Figure label="Virtual services up" value={services.data ? `${up}` : "–"} of={services.data?.count} to="/virtualservices" bad={down.length > 0} />
        <Figure label="Service engines up" value={engines.data ? `${engines.data.filter((engine) => engine.state === "OPER_UP").length}` : "–"} of={engines.data?.length} to="/serviceengines" bad={engineTrouble.some((engine) => engine.state === "OPER_DOWN")} />
        <Figure label="Groups" value={groups.data ? `${groups.data.length}` : "–"} to="/serviceenginegroups" />
        <Figure label="Weakest margin" {...weakest(groups.data)} to="/map" />
      </div>
      {services.data?.count === 0 ? (
        <Card label="First steps">
          <Empty title="Nothing is served yet" action={<Link to="/virtualservices/new" className="button primary"><Icon name="plus" /> Create a virtual service</Link>}>
            Make a virtual service: an address, a port, the servers behind it. Engines are made as they are needed.
          </Empty>
        </Card>
      ) : (
        <>
          <div className="dash">
            <div className="stack">
              <div className="grid-2">
                <Card label="Throughput"><Chart title="Throughput" series={[total(traffic.data, "se_if.avg_bandwidth", "All engines")]} /></Card>
                <Card label="Requests">
                  {many ? <Chart title="Open connections" series={[total(traffic.data, "se_stats.avg_connections", "All engines")]} /> : <Chart title="Requests" series={[total(requests.data, "l7_client.avg_total_requests", "all"), total(requests.data, "l7_client.avg_error_responses", "errors")]} />}
                </Card>
              </div>
              <Card title="Service engine groups">
                <div className="body">
                  {!groups.data ? <Loading /> : (
                    <ul className="groups">
                      {[...groups.data].sort(byTrouble).map((group) => <GroupLine key={group.uuid} group={group} />)}
                    </ul>
                  )}
                </div>
              </Card>
            </div>
            <div className="stack">
              <Card title="What is down, and why" className="first">
                <div className="body">
                  {down.length === 0 && engineTrouble.length === 0 ? (
                    <p className="row"><Pill tone="ok">Nothing</Pill> <span className="muted">All that is enabled is up, on as many engines as wanted.</span></p>
                  ) : (
                    <ul className="plain">
                      {engineTrouble.map((engine) => {
                        const [word, tone] = stateOf(engine.state);
                        return <li key={engine.uuid} className="row"><Pill tone={tone}>{word}</Pill><Link to={`/serviceengines/${engine.uuid}`}>{engine.name}</Link><span className="muted small">{engine.reason}</span></li>;
                      })}
                      {down.slice(0, DOWN_SHOWN_MAX).map((row) => {
                        const [word, tone] = row.state === "OPER_UP" ? ["Short", "warn" as const] : stateOf(row.state);
                        return <li key={row.uuid} className="row"><Pill tone={tone}>{word}</Pill><Link to={`/virtualservices/${row.uuid}`}>{row.name}</Link><span className="muted small">{row.reason || `${row.assigned} of ${row.requested} engines`}</span></li>;
                      })}
                      {down.length > DOWN_SHOWN_MAX && <li><Link to="/virtualservices?show=down">{plural(down.length - DOWN_SHOWN_MAX, "more")}</Link></li>}
                    </ul>
                  )}
                </div>
              </Card>
              <Card title="Recent events" actions={<Link to="/events">All</Link>}>
                <div className="body"><EventList size={9} brief module="SYSTEM,CONFIG" /></div>
              </Card>
            </div>
          </div>
        </>
      )}
    </Page>
  );
}

function Figure({ label, value, of, to, bad = false }: { label: string; value: string; of?: number; to: string; bad?: boolean }) {
  return (
    <Link to={to} className={`card figure ${bad ? "bad" : ""}`}>
      <span className="muted">{label}</span>
      <b>{value}{of !== undefined && <small> of {of.toLocaleString("en")}</small>}</b>
    </Link>
  );
}

function GroupLine({ group }: { group: GroupRow }) {
  const { buffer } = group;
  return (
    <li>
      <div>
        <Link to={`/map?group=${group.uuid}`}><b>{group.name}</b></Link>
        <span className="muted small"> {MODES[group.mode] ?? group.mode}</span> <UpgradePill upgrade={group.upgrade} />
      </div>
      <MarginPills margin={group.margin} />
      <span className="small num muted" title={`At most ${plural(group.engines_max, "engine")}`}>{plural(group.services, "virtual service")}, {group.engines} of {plural(group.engines_max, "engine")}</span>
      <span className="row nowrap small num muted slots">
        {buffer.slots ? (
          <>
            <Meter value={buffer.used} of={buffer.slots} tone={buffer.kept === false ? "bad" : "info"} label={`${buffer.used} of ${buffer.slots} slots used`} />
            {buffer.free} of {buffer.slots} slots free{buffer.needed ? `, ${buffer.needed} needed` : ""}
          </>
        ) : null}
      </span>
    </li>
  );
}

function byTrouble(a: GroupRow, b: GroupRow): number {
  return Number(b.services > 0) - Number(a.services > 0) || (a.margin?.stays_up?.engines ?? 99) - (b.margin?.stays_up?.engines ?? 99) || a.name.localeCompare(b.name);
}

function weakest(groups: GroupRow[] | undefined): { value: string; bad?: boolean } {
  const serving = (groups ?? []).filter((group) => group.services > 0 && group.margin?.of_engines);
  if (!serving.length) return { value: "–" };
  const least = serving.reduce((worst, group) => (group.margin!.stays_up.engines < worst.margin!.stays_up.engines ? group : worst));
  const engines: number = least.margin!.stays_up.engines;
  return { value: engines === 0 ? `none, ${least.name}` : `${plural(engines, "engine")}`, bad: engines === 0 };
}
