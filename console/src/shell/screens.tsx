// Which address shows what.

import { type ComponentType, lazy, type ReactNode } from "react";
import { Link } from "../core/router";
import { Empty, Page } from "../ui/basics";

const Dashboard = lazy(() => import("../screens/Dashboard"));
const Groups = lazy(() => import("../screens/Groups"));
const GroupEditor = lazy(() => import("../screens/GroupEditor"));
const Services = lazy(() => import("../screens/Services"));
const Service = lazy(() => import("../screens/Service"));
const ServiceWizard = lazy(() => import("../screens/ServiceWizard"));
const MapScreen = lazy(() => import("../map/MapScreen"));
const Engines = lazy(() => import("../screens/Engines"));
const Engine = lazy(() => import("../screens/Engine"));
const Events = lazy(() => import("../screens/Events"));
const Certificates = lazy(() => import("../screens/Certificates"));
const Tenants = lazy(() => import("../screens/Tenants"));
const Settings = lazy(() => import("../screens/Settings"));

export const SECTIONS: [string, [string, string, string, string?][]][] = [
  ["", [["Dashboard", "/", "dashboard"]]],
  ["Applications", [["Virtual Services", "/virtualservices", "services", "virtualservice"]]],
  [
    "Infrastructure",
    [
      ["Placement map", "/map", "map", "serviceenginegroup"],
      ["Service Engine Group", "/serviceenginegroups", "group", "serviceenginegroup"],
      ["Service Engines", "/serviceengines", "engine", "serviceengine"],
    ],
  ],
  [
    "Operations",
    [
      ["Events", "/events", "events"],
      ["Certificates", "/certificates", "certificate", "sslkeyandcertificate"],
      ["Tenants and users", "/tenants", "people", "tenant"],
      ["Settings", "/settings", "settings"],
    ],
  ],
];

const ROUTES: [RegExp, ComponentType<any>][] = [
  [/^\/$/, Dashboard],
  [/^\/virtualservices$/, Services],
  [/^\/virtualservices\/new$/, ServiceWizard],
  [/^\/virtualservices\/([^/]+)$/, Service],
  [/^\/map$/, MapScreen],
  [/^\/serviceenginegroups$/, Groups],
  [/^\/serviceenginegroups\/([^/]+)$/, GroupEditor],
  [/^\/serviceengines$/, Engines],
  [/^\/serviceengines\/([^/]+)$/, Engine],
  [/^\/events$/, Events],
  [/^\/certificates$/, Certificates],
  [/^\/tenants$/, Tenants],
  [/^\/settings$/, Settings],
];

export function screenFor(path: string): ReactNode {
  for (const [pattern, Screen] of ROUTES) {
    const found = pattern.exec(path.replace(/(.)\/+$/, "$1"));
    if (found) return <Screen key={path} id={found[1] ? decodeURIComponent(found[1]) : undefined} />;
  }
  return (
    <Page title="Not found">
      <Empty title="There is no such page" action={<Link to="/" className="button">Dashboard</Link>}>
        The address may be mistyped, or what it showed was deleted.
      </Empty>
    </Page>
  );
}
