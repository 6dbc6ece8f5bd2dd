import { Fragment } from "react";

/** A layer's name, which may be broken behind each underscore: it is too long for a column of a table. */
export function LayerName({ name }: { name: string }) {
  const parts = name.split(/(?<=_)/);
  return parts.map((part, place) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: the parts have no other key, and never change places.
    <Fragment key={place}>
      {place > 0 && <wbr />}
      {part}
    </Fragment>
  ));
}
