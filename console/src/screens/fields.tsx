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

interface Props {
  name: string;
  label: string;
  hint?: string;
  schema: FieldSchema;
  value: unknown;
  changed?: boolean;
  error?: string;
  disabled?: boolean;
  /** `why` says what is wrong with what was typed; "" = nothing. */
  onChange: (value: number | string, why: string) => void;
}

export function Numeric({ name, label, hint, schema, value, changed, error, disabled, onChange }: Props) {
  const [text, setText] = useState(String(value ?? ""));
  useEffect(() => {
    setText((typed) => (checked(typed, schema) === "" && Number(typed) === Number(value) ? typed : String(value ?? "")));
  }, [value, schema]);
  const range = schema.max === undefined ? "" : `${schema.min} to ${schema.max}`;
  return (
    <Field label={<span className={changed ? "changed" : ""}>{label}</span>} htmlFor={name} unit={UNITS[schema.unit ?? ""]} hint={[hint, range && `Range ${range}.`].filter(Boolean).join(" ")} error={checked(text, schema) || error}>
      <input
        id={name}
        type="number"
        inputMode="numeric"
        min={schema.min}
        max={schema.max}
        value={text}
        disabled={disabled}
        aria-invalid={Boolean(checked(text, schema) || error)}
        aria-describedby={error || checked(text, schema) ? `${name}-error` : hint || range ? `${name}-hint` : undefined}
        onChange={(event) => {
          setText(event.target.value);
          const why = checked(event.target.value, schema);
          onChange(why ? event.target.value : Number(event.target.value), why);
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
