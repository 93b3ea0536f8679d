// What is imagined, as a question to the controller.

import { useEffect, useRef, useState } from "react";
import { call, type Document } from "../core/api";
import { type Query, useLoad } from "../core/live";
import type { GroupMap, Mark } from "./model";

export interface Wish {
  marks: Record<string, Mark>;
  /** The worst so many engines fail; then `marks` has no "fail". */
  worst: number;
  /** Fields of the group. */
  edits: Document;
  /** More virtual services. */
  add: number;
}

/** What of a group can be changed on the map, with its label. */
export const NUMBERS: [string, string][] = [
  ["max_vs_per_se", "Virtual Services per Service Engine"],
  ["max_se", "Max Number of Service Engines"],
  ["buffer_se", "Buffer Service Engines"],
  ["min_scaleout_per_vs", "Scale per Virtual Service, Minimum"],
];

export const nothing: Wish = { marks: {}, worst: 0, edits: {}, add: 0 };

const THINK_MS = 150;

export function isAnything(wish: Wish): boolean {
  return Object.keys(wish.marks).length > 0 || wish.worst > 0 || wish.add > 0 || Object.keys(wish.edits).length > 0;
}

/** What of it can be done for real: nobody is killed by asking. */
export function isDoable(wish: Wish): boolean {
  return Object.keys(wish.edits).length > 0 || Object.values(wish.marks).includes("drain");
}

export function question(uuid: string, wish: Wish): Document {
  const marked = (mark: Mark) => Object.keys(wish.marks).filter((engine) => wish.marks[engine] === mark);
  const asked: Document = { group: uuid };
  if (wish.worst) asked.fail_any = wish.worst;
  else if (marked("fail").length) asked.fail_engines = marked("fail");
  if (marked("drain").length) asked.drain_engines = marked("drain");
  if (wish.add) asked.add = wish.add;
  const edits = Object.entries(wish.edits).map(([field, value]) => [`serviceenginegroup:${uuid}.${field}`, value]);
  if (edits.length) asked.set = Object.fromEntries(edits);
  return asked;
}

/** Asked again when the group is another one than before. The last answer stays until the next one is there: the map need not
 * jump back meanwhile. */
export function useWhatIf(uuid: string, wish: Wish, map: GroupMap | undefined): Query<Document> {
  const text = isAnything(wish) ? JSON.stringify(question(uuid, wish)) : "";
  const [settled, setSettled] = useState("");
  useEffect(() => {
    if (!text) {
      setSettled("");
      return;
    }
    const timer = setTimeout(() => setSettled(text), THINK_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const last = useRef<Document | undefined>(undefined);
  const asked = useLoad<Document>(settled && map ? `whatif ${settled}` : null, async (signal) => (await call("POST", "/api/whatif", JSON.parse(settled), signal)).data, { on: ["placements", "engines"], pause: 1500 });
  if (asked.data) last.current = asked.data;
  if (!text || asked.error) last.current = undefined;
  return { ...asked, data: asked.data ?? last.current, loading: asked.loading || text !== settled };
}
