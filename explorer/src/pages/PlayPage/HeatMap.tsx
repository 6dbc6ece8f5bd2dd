import { type CSSProperties, type KeyboardEvent, memo, type ReactNode, useRef, useState } from "react";
import { precise } from "../../components/numbers";
import { nameOf, piecesOf, type Token } from "../../components/tokenPieces";
import styles from "./HeatMap.module.css";
import { type Cell, COLUMNS, cellAfter, shade } from "./heatMap";

export interface HeatMapRow {
  index: number;
  name: string;
  values: readonly number[];
  max: number;
  /** The neuron and what can be done with it. */
  head: ReactNode;
}

interface HeatMapProps {
  tokens: readonly Token[];
  rows: readonly HeatMapRow[];
  /** Whether each neuron's largest activation is the darkest, not the largest of all. */
  perRow: boolean;
  picked: number | null;
  onPick: (token: number) => void;
}

/** Neurons from top to bottom, tokens from left to right; arrow keys go from cell to cell, Enter picks a token. */
export function HeatMap({ tokens, rows, perRow, picked, onPick }: HeatMapProps) {
  const [first, setFirst] = useState(0);
  const [place, setPlace] = useState<Cell>({ row: 0, column: 0 });
  const grid = useRef<HTMLTableElement>(null);
  const begin = first < tokens.length ? first : 0;
  const shown = tokens.slice(begin, begin + COLUMNS);
  const active = {
    row: Math.min(place.row, rows.length - 1),
    column: Math.min(place.column, shown.length - 1),
  };
  const highest = rows.reduce((max, row) => Math.max(max, row.max), 0);
  const row = rows[active.row];
  const token = shown[active.column];

  const onKeyDown = (event: KeyboardEvent) => {
    if (!(event.target as Element).matches("[role=gridcell]")) return;
    if (event.key === "Enter" || event.key === " ") onPick(begin + active.column);
    else {
      const next = cellAfter(event.key, active, rows.length, shown.length);
      if (!next) return;
      setPlace(next);
      grid.current?.querySelector<HTMLElement>(`[data-cell="${next.row}-${next.column}"]`)?.focus();
    }
    event.preventDefault();
  };

  return (
    <>
      <section className={styles.scroll} aria-label="Map of neurons and tokens" tabIndex={-1}>
        {/* biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: a grid may be a table. */}
        <table ref={grid} role="grid" aria-label="Activations by neuron and token" onKeyDown={onKeyDown}>
          <thead>
            <tr>
              <th scope="col" className={styles.corner}>
                Neuron
              </th>
              {shown.map((one, column) => (
                <th
                  // biome-ignore lint/suspicious/noArrayIndexKey: a token is its place.
                  key={column}
                  scope="col"
                  className={styles.token}
                  aria-selected={begin + column === picked}
                >
                  {piecesOf(one).map(({ text }) => text)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((one, index) => (
              <HeatRow
                key={one.index}
                row={one}
                place={index}
                activeColumn={index === active.row ? active.column : null}
                max={perRow ? one.max : highest}
                {...{ tokens, begin, onPick, setPlace }}
              />
            ))}
          </tbody>
        </table>
      </section>
      <p className={styles.reading}>
        {row && token && (
          <>
            {row.name} on {nameOf(token)}: {precise(row.values[begin + active.column] ?? 0)}
          </>
        )}
      </p>
      {tokens.length > COLUMNS && (
        <div className="row">
          <span className="muted">
            Tokens {begin + 1} to {begin + shown.length} of {tokens.length}
          </span>
          <button type="button" disabled={begin === 0} onClick={() => setFirst(Math.max(0, begin - COLUMNS))}>
            Earlier tokens
          </button>
          <button
            type="button"
            disabled={begin + COLUMNS >= tokens.length}
            onClick={() => setFirst(begin + COLUMNS)}
          >
            Later tokens
          </button>
        </div>
      )}
    </>
  );
}

interface HeatRowProps {
  row: HeatMapRow;
  place: number;
  activeColumn: number | null;
  max: number;
  tokens: readonly Token[];
  begin: number;
  onPick: (token: number) => void;
  setPlace: (place: Cell) => void;
}

const HeatRow = memo(function HeatRow(props: HeatRowProps) {
  const { row, place, activeColumn, max, tokens, begin, onPick, setPlace } = props;
  return (
    <tr>
      <th scope="row" className={styles.head}>
        {row.head}
      </th>
      {tokens.slice(begin, begin + COLUMNS).map((token, column) => {
        const value = row.values[begin + column] ?? 0;
        const label = `${row.name} on ${nameOf(token)}: ${precise(value)}`;
        return (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are those of the map.
          <td
            // biome-ignore lint/suspicious/noArrayIndexKey: a token is its place.
            key={column}
            // biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: a grid may be a table.
            role="gridcell"
            tabIndex={column === activeColumn ? 0 : -1}
            data-cell={`${place}-${column}`}
            aria-label={label}
            title={label}
            className={styles.cell}
            style={{ "--shade": `${Math.round(100 * shade(value, max))}%` } as CSSProperties}
            onMouseEnter={() => setPlace({ row: place, column })}
            onFocus={() => setPlace({ row: place, column })}
            onClick={() => onPick(begin + column)}
          />
        );
      })}
    </tr>
  );
});
