// Something is deleted: what goes with it is said first, and what refuses it.

import { type ReactNode, useState } from "react";
import { ApiError, call } from "../core/api";
import { useAttempt } from "../core/attempt";
import { Button, Dialog, Fault, toast } from "../ui/basics";

export interface Doomed {
  name: string;
  path: string;
}

/** `onDone`: something was. What can't be deleted stays, and is told with its reason; then the dialog stays open. */
export function DeleteDialog({ title, doomed, children, onClose, onDone }: { title: string; doomed: Doomed[]; children: ReactNode; onClose: () => void; onDone: () => void }) {
  const [left, setLeft] = useState(doomed);
  const [refused, setRefused] = useState<[Doomed, ApiError][]>([]);
  const { busy, attempt } = useAttempt();
  const run = () =>
    attempt(async () => {
      const found: [Doomed, ApiError][] = [];
      for (const one of left) {
        try {
          await call("DELETE", one.path);
          toast(`${one.name} is deleted.`);
        } catch (error) {
          found.push([one, error as ApiError]);
        }
      }
      setLeft(found.map(([one]) => one));
      setRefused(found);
      if (found.length < left.length) onDone();
      if (found.length === 0) onClose();
    });
  return (
    <Dialog title={refused.length ? "Not deleted" : title} onClose={onClose} actions={<><Button onClick={onClose}>{refused.length ? "Close" : "Cancel"}</Button><Button kind="danger" busy={busy} onClick={run}>{refused.length ? "Try again" : "Delete"}</Button></>}>
      {refused.map(([one, error]) => (
        <div key={one.path}>
          <h3>{one.name}</h3>
          <Fault error={error} />
        </div>
      ))}
      {refused.length === 0 && children}
    </Dialog>
  );
}
