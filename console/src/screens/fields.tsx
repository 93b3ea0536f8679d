// Inputs made from the schema: range, unit, default, checked as one types.

import { useEffect, useState } from "react";
import { Field } from "../ui/basics";

export interface FieldSchema {
  kind: string;
  required: boolean;
  default?: unknown;
  min?: number;
  max?: number;
  enum?: string[];
  special?: Record<string, string>;
  unit?: string;
  ref?: string;
  fields?: Schema;
  /** Of the entries of a list. */
  item?: FieldSchema;
  /** It is kept, and nothing reads it. */
  idle?: boolean;
}

export type Schema = Record<string, FieldSchema>;

const UNITS: Record<string, string> = {
  SEC: "s",
  MIN: "min",
  PERCENT: "%",
  GB: "GB",
  MB: "MB",
  KB: "kB",
  BYTES: "B",
  MILLISECONDS: "ms",
  MICROSECONDS: "µs",
  PER_SECOND: "per second",
};

/** Written so wherever they stand. */
const SHORT = new Map(
  "API ARP AZ BFD BGP CIDR CORS CPU CRL CSRF CSV DHCP DNS DoS EC FIPS FQDN GCM GSLB HSM HSTS HTTP HTTP2 HTTPS ICAP ICMP ID IP IPAM IPv4 IPv6 JSON JWT L2 L3 L4 L7 LDAP MAC MTU NAT NTP OCSP OS PEM PFS PKI QUIC RHI RSA RTT SAML SE SEs SNAT SNI SNMP SSH SSL SYN TCP TLS TSIG TTL UDP URI URL UUID vCPU VIP VLAN VRF VS WAF XFF"
    .split(" ")
    .map((word) => [word.toLowerCase(), word]),
);
const SPELLED: Record<string, string> = {
  addr: "address", algo: "algorithm", auth: "authentication", bw: "bandwidth", cert: "certificate", certs: "certificates", cksum: "checksum",
  config: "configuration", conn: "connection", conns: "connections", cps: "connections a second", dist: "distribution", del: "delete", doser: "attackers",
  ecmp: "ECMP", hdr: "header", hm: "health monitor", ign: "ignore", info: "information", ip6: "IPv6", lb: "load balancing", mem: "memory",
  mgmt: "management", net: "network", num: "number of", params: "parameters", req: "request", resp: "response", scalein: "scale-in",
  scaleout: "scale-out", vcenter: "vCenter", vcpus: "vCPUs", vh: "virtual host", vm: "VM", vsvip: "VsVip", xlate: "translation",
};

function sentence(words: string[]): string {
  const text = words.map((word) => SPELLED[word] ?? SHORT.get(word) ?? word).join(" ").replace(/(\d) (?=\d)/g, "$1.");
  return text.startsWith("vCPU") ? text : text.charAt(0).toUpperCase() + text.slice(1);
}

/** `ssl_key_and_certificate_refs` -> "SSL key and certificate" */
export function labelOf(name: string): string {
  return sentence(name.toLowerCase().replace(/_refs?$/, "").split("_").filter(Boolean));
}

/** One of an enum's values, without what all of them begin with: `LB_ALGORITHM_ROUND_ROBIN` -> "Round robin". */
export function choiceOf(value: string, all: string[]): string {
  const split = all.map((one) => one.split("_"));
  let shared = 0;
  while (split.length > 1 && split.every((words) => words.length > shared + 1 && words[shared] === split[0]![shared])) shared += 1;
  return sentence(value.toLowerCase().split("_").slice(shared).filter(Boolean));
}

interface Props {
  name: string;
  label: string;
  /** Its name in the API and the shell, where the label is another one. */
  code?: string;
  idle?: boolean;
  hint?: string;
  schema: FieldSchema;
  value: unknown;
  changed?: boolean;
  error?: string;
  disabled?: boolean;
  /** Nothing typed is right, too: then it is not set. */
  optional?: boolean;
  /** `why` says what is wrong with what was typed; "" = nothing. */
  onChange: (value: number | string | undefined, why: string) => void;
}

export function Numeric({ name, label, code, idle, hint, schema, value, changed, error, disabled, optional = false, onChange }: Props) {
  const [text, setText] = useState(String(value ?? ""));
  const wrongIn = (typed: string) => (optional && typed.trim() === "" ? "" : checked(typed, schema));
  useEffect(() => {
    setText((typed) => (checked(typed, schema) === "" && Number(typed) === Number(value) ? typed : String(value ?? "")));
  }, [value, schema]);
  const range = schema.max === undefined ? "" : `${schema.min} to ${schema.max}`;
  return (
    <Field label={<span className={changed ? "changed" : ""}>{label}</span>} code={code} idle={idle} htmlFor={name} unit={UNITS[schema.unit ?? ""]} hint={[hint, range && `Range ${range}.`].filter(Boolean).join(" ")} error={wrongIn(text) || error}>
      <input
        id={name}
        type="number"
        inputMode="numeric"
        min={schema.min}
        max={schema.max}
        value={text}
        disabled={disabled}
        aria-invalid={Boolean(wrongIn(text) || error)}
        aria-describedby={error || wrongIn(text) ? `${name}-error` : hint || range ? `${name}-hint` : undefined}
        onChange={(event) => {
          setText(event.target.value);
          const typed = event.target.value;
          const why = wrongIn(typed);
          onChange(why ? typed : typed.trim() === "" ? undefined : Number(typed), why);
        }}
      />
    </Field>
  );
}

/** What is wrong with it, for a person; "" = nothing. */
export function checked(text: string, schema: FieldSchema): string {
  if (text.trim() === "") return "A number is needed here.";
  const number = Number(text);
  if (!Number.isFinite(number)) return "This must be a number.";
  if (schema.kind === "integer" && !Number.isInteger(number)) return "This must be a whole number.";
  if (schema.special && String(number) in schema.special) return "";
  if (schema.min !== undefined && schema.max !== undefined && (number < schema.min || number > schema.max)) return `This must be ${schema.min} to ${schema.max}.`;
  return "";
}
