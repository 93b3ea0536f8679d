// Operations > Tenants and users.

import { setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Card, Page, Panel, Tabs } from "../ui/basics";
import { ROLE_COLUMNS, RoleForm, TENANT_COLUMNS, TenantForm, USER_COLUMNS, UserForm } from "./Access";
import { Objects } from "./Objects";

const TABS: [string, string][] = [
  ["tenant", "Tenants"],
  ["user", "Users"],
  ["role", "Roles"],
];

export default function Tenants() {
  const { mayRead } = useSession();
  const tabs = TABS.filter(([type]) => mayRead(type));
  const wanted = useQueryParam("tab");
  const tab = tabs.some(([type]) => type === wanted) ? wanted : (tabs[0]?.[0] ?? "");
  return (
    <Page title="Tenants and users" crumbs={[["Operations", ""]]}>
      <Card label="Tenants and users">
        <Tabs label="Kinds" tabs={tabs} current={tab} onChange={(next) => setQuery({ tab: next === "tenant" ? null : next })} />
        <Panel id={tab}>
          {tab === "tenant" && <Objects key={tab} type="tenant" noun="tenant" about="A tenant's people see its own objects and what admin shares." first="Make one for each team that should have its own." columns={TENANT_COLUMNS} Form={TenantForm} />}
          {tab === "user" && <Objects key={tab} type="user" noun="user" about="People who may sign in, and as what in which tenant." first="Make one for each person." columns={USER_COLUMNS} Form={UserForm} />}
          {tab === "role" && <Objects key={tab} type="role" noun="role" about="What a person with this role may read and write." first="Make one for each kind of work." columns={ROLE_COLUMNS} Form={RoleForm} />}
        </Panel>
      </Card>
    </Page>
  );
}
