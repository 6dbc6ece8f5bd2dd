import { precise, whole } from "./numbers";

interface NumberTextProps {
  /** Null shows a dash: the server does not know it. */
  value: number | null | undefined;
  /** How to write it; by default four significant digits. */
  format?: (value: number) => string;
  unit?: string;
}

/** A number, shortened, with the whole of it in the tooltip. */
export function NumberText({ value, format = precise, unit }: NumberTextProps) {
  if (value === null || value === undefined) return <span className="muted">–</span>;
  const exact = Number.isInteger(value) ? whole(value) : String(value);
  const shown = format(value);
  return (
    <span title={shown === exact ? undefined : exact}>
      {shown}
      {unit && ` ${unit}`}
    </span>
  );
}
