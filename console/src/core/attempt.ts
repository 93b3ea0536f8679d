// What a button sets off: busy while it lasts, and the fault it met until the next try.

import { useState } from "react";
import type { ApiError } from "./api";

export function useAttempt() {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<ApiError | null>(null);
  const attempt = async (work: () => Promise<unknown>) => {
    setBusy(true);
    setFault(null);
    try {
      await work();
    } catch (error) {
      setFault(error as ApiError);
    }
    setBusy(false);
  };
  return { busy, fault, attempt, forget: () => setFault(null) };
}
