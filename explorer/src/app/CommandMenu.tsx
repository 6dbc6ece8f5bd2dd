import { type KeyboardEvent, useDeferredValue, useEffect, useState } from "react";
import { useLocation } from "wouter";
import { useData } from "../api/hooks";
import { Dialog } from "../components/Dialog";
import { ErrorBox } from "../components/ErrorBox";
import { CommandMenuQueryDocument } from "./CommandMenu.generated";
import styles from "./CommandMenu.module.css";
import {
  actionsAt,
  type Destination,
  groupsOf,
  neuronNamed,
  placesFor,
  saeOf,
  withoutRepeats,
} from "./destinations";
import { recentPlaces } from "./recentPlaces";
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

function actionsFor(text: string, location: string): Destination[] {
  const words = text.trim().toLowerCase();
  return actionsAt(location).filter(({ label }) => label.toLowerCase().includes(words));
}

/** Recent places that are shown before anything has been typed. */
const PLACES_AT_FIRST = 5;

/** Goes anywhere: what can be done here, recent places, pages, what a search finds, and #1234 for a neuron of the SAE that is looked at. */
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
  const [recent] = useState(recentPlaces);
  const neuron = neuronNamed(text, location);
  const places = placesFor(text, recent, location);
  const groups = withoutRepeats([
    { title: "Neuron", destinations: neuron ? [neuron] : [] },
    { title: "Here", destinations: actionsFor(text, location) },
    { title: "Pages", destinations: text.trim() === "" ? [] : pagesFor(text) },
    { title: "Recent", destinations: places.slice(0, PLACES_AT_FIRST) },
    { title: "Pages", destinations: text.trim() === "" ? pagesFor("") : [] },
    ...groupsOf(searched === "" ? [] : (data?.search ?? [])),
  ]);
  const found = groups.flatMap(({ destinations }) => destinations);
  const chosen = Math.min(place, found.length - 1);

  useEffect(() => {
    document.getElementById(`command-${chosen}`)?.scrollIntoView({ block: "nearest" });
  }, [chosen]);

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
        {groups.map(({ title, destinations }) => (
          <div key={title} role="group" aria-label={title}>
            <div aria-hidden="true" className={styles.group}>
              {title}
            </div>
            {destinations.map((destination) => {
              const index = found.indexOf(destination);
              return (
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
              );
            })}
          </div>
        ))}
      </div>
      <p role="status" className="muted">
        {loading ? "Searching…" : found.length === 0 ? "Nothing found." : ""}
      </p>
    </Dialog>
  );
}
