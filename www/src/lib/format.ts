// Numbers as people read them: one place, so that a loss has the same digits wherever it stands.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Stands where there is no number yet; as wide as nothing, and read out as nothing. */
export const none = "–";

/** Nats, three digits after the point. */
export function loss(value: number | null | undefined): string {
  return value === null || value === undefined ? none : value.toFixed(3);
}

/** With a real minus sign, and a plus where it rose. */
export function change(value: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

export function count(value: number): string {
  return whole.format(value);
}

/** “1 example”, “12 examples”; “2 processes” with the plural given. */
export function counted(value: number, noun: string, plural = `${noun}s`): string {
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

/** Seconds as “8 s”, “1 min 20 s”, “2 h 5 min”. */
export function duration(seconds: number): string {
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total} s`;
  const minutes = Math.floor(total / 60);
  if (minutes < 60) return `${minutes} min ${total % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** “14:05” for today, “3 Nov, 14:05” for any other day. `at` in ms since 1970. */
export function when(at: number): string {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return today ? time.format(date) : `${day.format(date)}, ${time.format(date)}`;
}
