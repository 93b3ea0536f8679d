// The placement map of a group, live; and on the same map what would happen if.

import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { MODES, plural } from "../core/format";
import { useGet } from "../core/live";
import { Link, setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { useGroups } from "../screens/Groups";
import { Button, Card, Empty, Fault, Icon, Loading, Meter, Page } from "../ui/basics";
import { MarginPills } from "../ui/margin";
import { ApplyDialog } from "./ApplyDialog";
import { BoardView } from "./BoardView";
import { Details } from "./Details";
import { board, type Board, type GroupMap, type Mark, type Phase } from "./model";
import { nothing, useWhatIf, type Wish } from "./whatif";
import { Moments, WhatIfPanel } from "./WhatIfPanel";

export default function MapScreen() {
  const wanted = useQueryParam("group");
  const groups = useGroups();
  const first = groups.data?.find((group) => group.services > 0) ?? groups.data?.[0];
  const uuid = wanted || first?.uuid || "";
  if (groups.error && !groups.data) return <Page title="Placement map"><Fault error={groups.error} retry={groups.refresh} /></Page>;
  if (!groups.data) return <Loading />;
  return (
    <GroupMapScreen
      key={uuid}
      uuid={uuid}
      picker={
        <select aria-label="Service engine group" value={uuid} onChange={(event) => setQuery({ group: event.target.value, select: null })}>
          {groups.data.map((group) => (
            <option key={group.uuid} value={group.uuid}>{group.name}</option>
          ))}
        </select>
      }
    />
  );
}

function GroupMapScreen({ uuid, picker }: { uuid: string; picker: React.ReactNode }) {
  const { data: map, error, refresh } = useGet<GroupMap>(uuid ? `/api/serviceenginegroup/${uuid}/placement/map` : null, { on: ["placements", "engines", "serviceenginegroup", "serviceengine"], pause: 300, every: 10_000 });
  const selected = useQueryParam("select");
  const whatif = useQueryParam("whatif") !== "";
  const [wish, setWish] = useState<Wish>(nothing);
  const [phase, setPhase] = useState<Phase>("right_after");
  const [applying, setApplying] = useState(false);
  const { mayWrite, whole } = useSession();
  const before = useRef<Board | null>(null);
  const outcome = useWhatIf(uuid, whatif ? wish : nothing, map);
  const answer = whatif && outcome.data ? outcome.data : null;

  const shown = useMemo(() => {
    if (!map) return null;
    const began = performance.now();
    before.current = board(map, whatif ? wish.marks : {}, answer, answer ? phase : "now", before.current);
    performance.measure("shoal-map-model", { start: began, end: performance.now() });
    return before.current;
  }, [map, whatif, wish.marks, answer, phase]);

  const onTile = useCallback((vip: string) => setQuery({ select: vip }), []);
  const onEngine = useCallback((id: string) => setQuery({ select: id }), []);
  const onMark = useCallback((ids: string[], mark: Mark) => {
    setWish((was) => {
      const marks = { ...was.marks };
      const all = ids.every((id) => marks[id] === mark);
      for (const id of ids) all ? delete marks[id] : (marks[id] = mark);
      return { ...was, marks, worst: 0 };
    });
  }, []);
  const leave = () => {
    setWish(nothing);
    setQuery({ whatif: null });
  };
  useEffect(() => {
    const key = (event: KeyboardEvent) => event.key === "Escape" && !document.querySelector("dialog[open]") && setQuery({ select: null });
    window.addEventListener("keydown", key);
    return () => window.removeEventListener("keydown", key);
  }, []);

  return (
    <Page
      wide
      title={map ? map.name : "Placement map"}
      crumbs={[["Infrastructure", ""], ["Placement map", "/map"]]}
      actions={
        <>
          {picker}
          <Link to={`/serviceenginegroups/${uuid}`} className="button">
            <Icon name="edit" size={16} /> {mayWrite("serviceenginegroup") ? "Edit group" : "Group"}
          </Link>
          {whole && <Button className={whatif ? "on" : ""} aria-pressed={whatif} kind={whatif ? "plain" : "primary"} onClick={() => (whatif ? leave() : setQuery({ whatif: "1", select: null }))}>
            <Icon name="bolt" size={16} /> What if …
          </Button>}
        </>
      }
    >
      {error && !map && <Fault error={error} retry={refresh} />}
      {!map && !error && <Loading />}
      {map && shown && (
        <>
          <Summary map={map} />
          <div className={`map-layout ${whatif || selected ? "with-panel" : ""}`}>
            <Card label="Placement map" className={whatif ? "stage whatif" : "stage"}>
              {whatif && <Moments answer={answer} phase={phase} onPhase={setPhase} />}
              {map.engines.length === 0 && map.vips.length === 0 ? (
                <Empty title="No engine yet" action={<Link to="/virtualservices/new" className="button primary">Create a virtual service</Link>}>
                  An engine is made when a virtual service of this group needs one.
                </Empty>
              ) : (
                <BoardView board={shown} slots={map.slots_per_engine} whatif={whatif} selected={selected} onTile={onTile} onEngine={onEngine} onMark={onMark} />
              )}
              <Legend pair={map.vips.some((vip) => vip.standby)} whatif={whatif && answer !== null} />
            </Card>
            {whatif ? (
              <WhatIfPanel map={map} wish={wish} onWish={setWish} outcome={outcome} onApply={() => setApplying(true)} onDiscard={leave} mayWrite={mayWrite("serviceenginegroup")} />
            ) : (
              selected && <Details map={map} id={selected} onClose={() => setQuery({ select: null })} />
            )}
          </div>
          {applying && (
            <ApplyDialog
              map={map}
              wish={wish}
              onClose={() => setApplying(false)}
              onDone={() => {
                setApplying(false);
                leave();
              }}
            />
          )}
        </>
      )}
    </Page>
  );
}

function Summary({ map }: { map: GroupMap }) {
  const { buffer } = map;
  const needed = buffer.needed ?? 0;
  const free = buffer.free ?? 0;
  return (
    <div className="summary">
      <span>{MODES[map.ha_mode] ?? map.ha_mode}</span>
      <span>{plural(map.engines.length, "engine")}</span>
      <span>{plural(map.vips.length, "VIP")}</span>
      {buffer.slots !== undefined && (
        <span className="row nowrap">
          <span className="summary-meter">
            <Meter value={buffer.used ?? 0} of={buffer.slots || 1} tone={buffer.kept === false ? "bad" : "info"} label={`${buffer.used} of ${buffer.slots} slots used`} />
          </span>
          {free} of {buffer.slots} slots free{needed ? `, ${needed} kept as buffer` : ""}
          {buffer.kept === false && <b className="worse">: too few</b>}
        </span>
      )}
      <MarginPills margin={map.ha_margin} />
    </div>
  );
}

function Legend({ pair, whatif }: { pair: boolean; whatif: boolean }) {
  return (
    <ul className="map-legend" aria-label="Legend">
      <li><i className="tile primary" /> primary</li>
      <li><i className="tile secondary" /> secondary</li>
      <li><i className="heir" /> {pair ? "standby" : "successor"}</li>
      <li><i className="cell" /> free slot</li>
      <li><i className="cell buffer" /> buffer slot</li>
      <li><i className="tile primary assigned" /> coming</li>
      <li><i className="tile primary draining" /> draining</li>
      {whatif && <li><i className="tile taken-over" /> moved</li>}
      {whatif && <li><i className="tile down" /> down</li>}
    </ul>
  );
}
