const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const PRECISE = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 });
const PERCENT = new Intl.NumberFormat("en-US", { style: "percent", maximumSignificantDigits: 3 });
const MOMENT = new Intl.DateTimeFormat("en-US", { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat("en-US", { timeStyle: "medium", hourCycle: "h23" });

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** 12,345,678 is "12.3M". */
export function compact(value: number): string {
  return Math.abs(value) < 10_000 && Number.isInteger(value) ? WHOLE.format(value) : COMPACT.format(value);
}

/** 12345.6 is "12,346". */
export function whole(value: number): string {
  return WHOLE.format(value);
}

/** Whole numbers as they are, others with four significant digits; very small and very large ones as powers of ten. */
export function precise(value: number): string {
  const size = Math.abs(value);
  if (size > 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return Number.isInteger(value) ? WHOLE.format(value) : PRECISE.format(value);
}

export function percent(fraction: number): string {
  return PERCENT.format(fraction);
}

/** 1,500,000 is "1.5 MB". */
export function bytes(value: number): string {
  const power = Math.min(BYTE_UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, value)) / 3)));
  const scaled = value / 1000 ** power;
  return `${scaled >= 100 ? WHOLE.format(scaled) : Number(scaled.toPrecision(2))} ${BYTE_UNITS[power]}`;
}

/** 3,725 seconds are "1 h 2 min". */
export function duration(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

/** A date and time of the API, where the reader is. */
export function moment(iso: string): string {
  return MOMENT.format(new Date(iso));
}

export function clock(iso: string): string {
  return CLOCK.format(new Date(iso));
}
