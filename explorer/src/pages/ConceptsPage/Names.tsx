import { useCallback, useState } from "react";
import { useSearchParams } from "wouter";
import { Select, TextField } from "../../components/controls";
import { whole } from "../../components/numbers";
import type { NeuronFilter, NeuronOrder } from "../../generated/types";
import { ORDER_NAMES, SOURCE_NAMES } from "../SaePage/Filters";
import { NeuronTable } from "../SaePage/NeuronTable";
import { listOf, SOURCES } from "../SaePage/neuronList";
import { useTyped } from "../SaePage/useDelayed";
import { useNeuronPages } from "../SaePage/useNeuronPages";
import { type ConceptsPageNamesQuery, ConceptsPageNamesQueryDocument } from "./ConceptsPage.generated";
import { HistoryDialog } from "./HistoryDialog";
import { NameHead, NameRow } from "./NameRow";
import styles from "./Names.module.css";

const ORDERS: readonly NeuronOrder[] = ["CONCEPT_NAME", "CONCEPT_UPDATED_DESC", "INDEX"];
const WITH_INDEX: readonly NeuronOrder[] = [
  ...ORDERS,
  "FREQUENCY_DESC",
  "FREQUENCY_ASC",
  "MAX_ACTIVATION_DESC",
];
const TYPING_MS = 200;

const pageOf = (data: ConceptsPageNamesQuery) => data.sae?.neurons;

/** The table of names, with its search, order and source in the address. */
export function Names({ saeId, hasFigures }: { saeId: string; hasFigures: boolean }) {
  const [address, setAddress] = useSearchParams();
  const [opened, setOpened] = useState<number | null>(null);
  const { search, source } = listOf(address);
  const orders = hasFigures ? WITH_INDEX : ORDERS;
  const order = orders.find((one) => one === address.get("order")) ?? "CONCEPT_NAME";
  const set = (key: string, value: string) =>
    setAddress(
      (before) => {
        const next = new URLSearchParams(before);
        if (value) next.set(key, value);
        else next.delete(key);
        return next;
      },
      { replace: true },
    );
  const [text, setText] = useTyped(search, (typed) => set("q", typed), TYPING_MS);
  const filter: NeuronFilter = {
    hasConcept: true,
    ...(search.trim() && { search: search.trim(), searchIn: ["CONCEPT", "NOTE"] as const }),
    ...(source && { conceptSource: [source] }),
  };
  const pages = useNeuronPages(ConceptsPageNamesQueryDocument, { saeId }, { orderBy: order, filter }, pageOf);
  const openHistory = useCallback((index: number) => setOpened(index), []);
  return (
    <>
      <search className={styles.filters}>
        <TextField
          label="Words"
          type="search"
          placeholder="In names and notes"
          value={text}
          onChange={setText}
        />
        <Select
          label="Order"
          value={order}
          options={orders.map((value) => ({ value, label: ORDER_NAMES[value] }))}
          onChange={(value) => set("order", value === "CONCEPT_NAME" ? "" : value)}
        />
        <Select
          label="Named by"
          value={source ?? ""}
          options={[
            { value: "", label: "Any" },
            ...SOURCES.map((value) => ({ value, label: SOURCE_NAMES[value] })),
          ]}
          onChange={(value) => set("source", value)}
        />
        <span className="muted" role="status">
          {pages.count === null ? "Searching…" : `${whole(pages.count)} listed`}
        </span>
      </search>
      <NeuronTable
        label="Names"
        pages={pages}
        listKey={[order, search, source].join("\n")}
        head={<NameHead />}
        row={(neuron) => <NameRow neuron={neuron} saeId={saeId} onHistory={openHistory} />}
        empty={{ text: "No name is like that.", href: `/saes/${saeId}/concepts`, label: "Show all names" }}
      />
      {opened !== null && <HistoryDialog saeId={saeId} index={opened} onClose={() => setOpened(null)} />}
    </>
  );
}
