import { useMemo } from "react";
import { useSearchParams } from "wouter";
import { addressOf, listOf, type NeuronList, withList } from "./neuronList";

/** The list of neurons that the address names, the same object while it is the same list, and how to change it. */
export function useNeuronList(): { list: NeuronList; query: string; setList: (list: NeuronList) => void } {
  const [address, setAddress] = useSearchParams();
  const query = addressOf(listOf(address)).toString();
  const list = useMemo(() => listOf(new URLSearchParams(query)), [query]);
  const setList = (next: NeuronList) => setAddress((before) => withList(before, next), { replace: true });
  return { list, query, setList };
}
