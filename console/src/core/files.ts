// Files that come from the controller, and go to where the browser keeps them.

import { ApiError, cookie, currentTenant, type Document, VERSION } from "./api";

/** What is not JSON. With `body` it is a POST. */
export async function fetched(path: string, body?: Document): Promise<Blob> {
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", "X-CSRFToken": cookie("csrftoken"), "X-Avi-Version": VERSION, "X-Avi-Tenant": currentTenant() },
    body: body && JSON.stringify(body),
  }).catch(() => {
    throw new ApiError(0, "The controller does not answer. Is it running, and is the network up?");
  });
  if (!response.ok) {
    const data = await response.json().catch(() => ({}));
    throw new ApiError(response.status, data.error ?? response.statusText, data.problems ?? []);
  }
  return response.blob();
}

export function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** For names of files: the minute. */
export function stamp(): string {
  return new Date().toISOString().slice(0, 16).replace(/[T:]/g, "-");
}

/** A file's content in base64. */
export function base64(file: File): Promise<string> {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result).split(",")[1] ?? "");
    reader.onerror = () => failed(new ApiError(0, `${file.name} can't be read: ${reader.error?.message ?? "the browser does not say why"}`));
    reader.readAsDataURL(file);
  });
}
