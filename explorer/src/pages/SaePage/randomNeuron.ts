import { type NeuronList, withoutFigures } from "./neuronList";

/** Returns the neurons of a list that fire; all of them where no index tells which do. */
export function firingOf(list: NeuronList, hasFigures: boolean): NeuronList {
  return hasFigures ? { ...list, dead: false } : withoutFigures(list);
}

/** Returns a place in a list for a number from 0 up to 1; each place is as likely. */
export function placeIn(count: number, drawn: number): number {
  return Math.min(Math.max(0, count - 1), Math.floor(drawn * count));
}
