// All objects of a kind in a table, and the dialog that makes or changes one: its own form first, every field behind it.

import { type ComponentType, type ReactNode, useState } from "react";
import { type Answer, call, type Document, list } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useLoad } from "../core/live";
import { useSession } from "../core/session";
import { Button, Dialog, Empty, Fault, Icon, Loading, Panel, Tabs, toast } from "../ui/basics";
import { type Column, Table } from "../ui/table";
import { DeleteDialog } from "./DeleteDialog";
import { ObjectForm } from "./ObjectForm";

export interface FormProps {
  /** What is stored, references with names; null = a new one. */
  stored: Document | null;
  readOnly: boolean;
  /** Runs the writes of the form, shows what is refused, closes the dialog when they are done. */
  save: (work: () => Promise<Answer<unknown>>) => void;
  /** The dialog's foot, where the form's own button goes. */
  foot: (ready: boolean, onSave: () => void) => ReactNode;
}

interface Props {
  type: string;
  noun: string;
  about: ReactNode;
  /** What to do first, when there is none. */
  first: string;
  columns: Column<Document>[];
  Form: ComponentType<FormProps>;
}

export function Objects({ type, noun, about, first, columns, Form }: Props) {
  const { data, error, refresh } = useLoad<Document[]>(`objects ${type}`, () => list(type, "include_name"), { on: [type] });
  const { mayWrite } = useSession();
  const [open, setOpen] = useState<Document | "new" | null>(null);
  const [removing, setRemoving] = useState<Document | null>(null);
  const write = mayWrite(type);
  const shown: Column<Document>[] = [
    { id: "name", title: "Name", width: "minmax(96px, 1fr)", by: (one) => String(one.name), cell: (one) => <button type="button" className="link" onClick={() => setOpen(one)}>{one.name}</button> },
    ...columns,
    { id: "delete", title: "", width: "44px", cell: (one) => write && <button type="button" className="icon" aria-label={`Delete ${one.name}`} onClick={() => setRemoving(one)}><Icon name="trash" size={16} /></button> },
  ];
  const create = write && <Button onClick={() => setOpen("new")}><Icon name="plus" /> New {noun}</Button>;
  return (
    <div className="stack">
      <div className="row">
        <p className="muted">{about}</p>
        <span className="spread" />
        {data && data.length > 0 && create}
      </div>
      {error && <Fault error={error} retry={refresh} />}
      {!data && !error && <Loading />}
      {data && <Table rows={data} columns={shown} id={(one) => one.uuid} label={`${noun}s`} sort="name" empty={<Empty title={`No ${noun} yet`} action={create}>{first}</Empty>} />}
      {removing && (
        <DeleteDialog title={`Delete ${removing.name}?`} doomed={[{ name: removing.name, path: `/api/${type}/${removing.uuid}` }]} onClose={() => setRemoving(null)} onDone={refresh}>
          <p>The {noun} {removing.name} is deleted. What refers to it keeps it from being so, and is named then.</p>
        </DeleteDialog>
      )}
      {open && <ObjectDialog type={type} noun={noun} stored={open === "new" ? null : open} readOnly={!write} Form={Form} onClose={() => setOpen(null)} onDone={refresh} />}
    </div>
  );
}

function ObjectDialog({ type, noun, stored, readOnly, Form, onClose, onDone }: { type: string; noun: string; stored: Document | null; readOnly: boolean; Form: ComponentType<FormProps>; onClose: () => void; onDone: () => void }) {
  const { busy, fault, attempt } = useAttempt();
  const [tab, setTab] = useState("form");
  const save = (work: () => Promise<Answer<unknown>>) =>
    void attempt(async () => {
      const answer = await work();
      toast(stored ? "Saved." : `The ${noun} is made.`);
      for (const warning of answer.warnings) toast(warning, "warn");
      onDone();
      onClose();
    });
  const foot = (ready: boolean, onSave: () => void) => (
    <div className="row dialog-foot">
      <span className="spread" />
      <Button onClick={onClose}>{readOnly ? "Close" : "Cancel"}</Button>
      {!readOnly && <Button kind="primary" busy={busy} disabled={!ready} onClick={onSave}>{stored ? "Save" : "Create"}</Button>}
    </div>
  );
  return (
    <Dialog title={stored ? stored.name : `New ${noun}`} wide onClose={onClose}>
      {stored && <Tabs label="Fields" tabs={[["form", "Settings"], ["all", "Every field"]]} current={tab} onChange={setTab} />}
      {fault && <Fault error={fault} />}
      {!stored && <Form stored={stored} readOnly={readOnly} save={save} foot={foot} />}
      {stored && (
        <Panel id={tab} bare>
          {tab === "form" ? <Form stored={stored} readOnly={readOnly} save={save} foot={foot} /> : <ObjectForm type={type} id={stored.uuid} readOnly={readOnly} onSaved={onDone} />}
        </Panel>
      )}
    </Dialog>
  );
}

/** A new object, or what has changed of a stored one. */
export function written(type: string, stored: Document | null, fields: Document): Promise<Answer<unknown>> {
  return stored ? call("PATCH", `/api/${type}/${stored.uuid}`, { replace: fields }) : call("POST", `/api/${type}`, fields);
}

/** The names of all objects of a kind, for a choice. */
export function useNames(type: string): string[] {
  return useLoad<string[]>(`names ${type}`, async () => (await list(type, "fields=name")).map((one) => String(one.name)), { on: [type] }).data ?? [];
}
