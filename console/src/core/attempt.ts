// What a button sets off: busy while it lasts, and the fault it met until the next try.

import { useState } from "react";
import { ApiError } from "./api";

export function useAttempt() {
  const [doing, setDoing] = useState("");
  const [fault, setFault] = useState<ApiError | null>(null);
  /** `what` tells several buttons apart, by `doing`. */
  const attempt = async (work: () => Promise<unknown>, what = "it") => {
    setDoing(what);
    setFault(null);
    try {
      await work();
    } catch (error) {
      setFault(error instanceof ApiError ? error : new ApiError(0, String(error)));
    }
    setDoing("");
  };
  return { busy: doing !== "", doing, fault, attempt, forget: () => setFault(null) };
}
