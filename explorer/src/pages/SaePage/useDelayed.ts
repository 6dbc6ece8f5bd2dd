import { useEffect, useRef, useState } from "react";

/** Returns a value that follows another one when that has not changed for a while. */
export function useDelayed<Value>(value: Value, milliseconds: number): Value {
  const [delayed, setDelayed] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setDelayed(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return delayed;
}

/**
 * A text in a field, told of when somebody has stopped typing; it follows changes from elsewhere.
 *
 * @param read What becomes of a text: "12 " is read as "12", and must not become that while somebody types on.
 */
export function useTyped(
  value: string,
  onChange: (value: string) => void,
  milliseconds: number,
  read: (text: string) => string = (text) => text,
): [string, (text: string) => void] {
  const [text, setText] = useState(value);
  const told = useRef(value);
  const given = useRef({ onChange, read });
  given.current = { onChange, read };
  useEffect(() => {
    if (value === given.current.read(told.current)) return;
    told.current = value;
    setText(value);
  }, [value]);
  useEffect(() => {
    if (text === told.current) return;
    const timer = setTimeout(() => {
      told.current = text;
      given.current.onChange(text);
    }, milliseconds);
    return () => clearTimeout(timer);
  }, [text, milliseconds]);
  return [text, setText];
}
