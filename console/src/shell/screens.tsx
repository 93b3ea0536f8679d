// Which address shows what.

import { type ComponentType, lazy, type ReactNode } from "react";
import { Link } from "../core/router";
import { Empty, Page } from "../ui/basics";

const Groups = lazy(() => import("../screens/Groups"));
const GroupEditor = lazy(() => import("../screens/GroupEditor"));

export const SECTIONS: [string, [string, string, string][]][] = [
  ["Infrastructure", [["Service Engine Group", "/serviceenginegroups", "group"]]],
];

const ROUTES: [RegExp, ComponentType<any>][] = [
  [/^\/$/, Groups],
  [/^\/serviceenginegroups$/, Groups],
  [/^\/serviceenginegroups\/([^/]+)$/, GroupEditor],
];

export function screenFor(path: string): ReactNode {
  for (const [pattern, Screen] of ROUTES) {
    const found = pattern.exec(path.replace(/(.)\/+$/, "$1"));
    if (found) return <Screen key={path} id={found[1] ? decodeURIComponent(found[1]) : undefined} />;
  }
  return (
    <Page title="Not found">
      <Empty title="There is no such page" action={<Link to="/" className="button">Service engine groups</Link>}>
        The address may be mistyped, or what it showed was deleted.
      </Empty>
    </Page>
  );
}
