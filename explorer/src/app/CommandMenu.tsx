import { type KeyboardEvent, useDeferredValue, useState } from "react";
import { useLocation } from "wouter";
import { useData } from "../api/hooks";
import { Dialog } from "../components/Dialog";
import { ErrorBox } from "../components/ErrorBox";
import { CommandMenuQueryDocument } from "./CommandMenu.generated";
import styles from "./CommandMenu.module.css";
import { type Destination, destinationOf, neuronNamed, saeOf, withoutTwins } from "./destinations";
import { routes } from "./routes";

interface CommandMenuProps {
  onClose: () => void;
}

function pagesFor(text: string): Destination[] {
  const words = text.trim().toLowerCase();
  return routes.flatMap(({ path, label }) =>
    label?.toLowerCase().includes(words) ? [{ href: path, label, kind: "Page" }] : [],
  );
}

/** Goes anywhere: pages, what a search finds, and #1234 for a neuron of the SAE that is looked at. */
export default function CommandMenu({ onClose }: CommandMenuProps) {
  const [location, navigate] = useLocation();
  const [text, setText] = useState("");
  const [place, setPlace] = useState(0);
  const searched = useDeferredValue(text.trim());
  const { data, problem, loading } = useData(
    CommandMenuQueryDocument,
    { text: searched, saeId: saeOf(location) },
    { pause: searched === "" },
  );
  const neuron = neuronNamed(text, location);
  const hits = searched === "" ? [] : (data?.search ?? []).map(destinationOf);
  const found = withoutTwins([...(neuron ? [neuron] : []), ...pagesFor(text), ...hits]);
  const chosen = Math.min(place, found.length - 1);

  const go = (destination: Destination | undefined) => {
    if (!destination) return;
    onClose();
    navigate(destination.href);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setPlace((chosen + step + found.length) % Math.max(1, found.length));
    else if (event.key === "Enter") go(found[chosen]);
    else return;
    event.preventDefault();
  };

  return (
    <Dialog title="Go to" onClose={onClose}>
      <input
        className={styles.input}
        role="combobox"
        aria-label="Search models, SAEs, neurons, jobs"
        aria-expanded={found.length > 0}
        aria-controls="command-menu-list"
        aria-activedescendant={found.length > 0 ? `command-${chosen}` : undefined}
        placeholder={saeOf(location) ? "Name, or #1234 for a neuron" : "Name of anything"}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setPlace(0);
        }}
        onKeyDown={onKeyDown}
      />
      {problem && <ErrorBox problem={problem} />}
      <div id="command-menu-list" role="listbox" aria-label="Destinations" className={styles.list}>
        {found.map((destination, index) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are those of the input.
          <div
            key={destination.href}
            id={`command-${index}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === chosen}
            className={styles.option}
            onClick={() => go(destination)}
          >
            <span>{destination.label}</span> <span className="muted">{destination.kind}</span>
          </div>
        ))}
      </div>
      <p role="status" className="muted">
        {loading ? "Searching…" : found.length === 0 ? "Nothing found." : ""}
      </p>
    </Dialog>
  );
}
