import {
  type CSSProperties,
  type KeyboardEvent,
  type MouseEvent,
  memo,
  type ReactNode,
  useId,
  useState,
} from "react";
import { precise } from "./numbers";
import styles from "./TokenText.module.css";
import { nameOf, piecesOf, type Token } from "./tokenPieces";

interface TokenTextProps {
  tokens: readonly Token[];
  /** One for each token; without them nothing is shaded. */
  activations?: readonly number[] | undefined;
  /** The activation of the strongest shade; by default the highest here. */
  max?: number;
  /** The place of a token to point out. */
  peak?: number;
  /** What the values are, in tooltips. */
  unit?: string;
  /** Lets people choose a token, by mouse or by arrow keys and Enter. */
  pick?: TokenPick;
}

export interface TokenPick {
  /** What choosing one does. */
  label: string;
  picked: number | null;
  onPick: (index: number) => void;
  /** Tells which token the mouse or the keyboard is on; null once it is on none. */
  onPoint?: (index: number | null) => void;
}

const STEPS: Record<string, (place: number, count: number) => number> = {
  ArrowRight: (place, count) => Math.min(count - 1, place + 1),
  ArrowLeft: (place) => Math.max(0, place - 1),
  Home: () => 0,
  End: (_, count) => count - 1,
};

/** Tokens shaded by activation, with the value in each one's tooltip. */
export const TokenText = memo(function TokenText(props: TokenTextProps) {
  const { tokens, activations = [], peak, unit = "activation" } = props;
  const max = props.max ?? activations.reduce((highest, value) => Math.max(highest, Math.abs(value)), 0);
  const strongest = peak === undefined ? undefined : tokens[peak];
  const texts = (optionOf?: (index: number) => TokenOption) =>
    tokens.map((token, index) => (
      <ShadedToken
        // biome-ignore lint/suspicious/noArrayIndexKey: a token is its place.
        key={index}
        token={token}
        value={activations[index]}
        {...{ max, unit }}
        isPeak={index === peak}
        {...optionOf?.(index)}
      />
    ));
  if (props.pick) return <PickableText count={tokens.length} pick={props.pick} texts={texts} />;
  return (
    <p className={styles.text}>
      {strongest && peak !== undefined && (
        <span className="hidden-visually">
          {`On ${nameOf(strongest)}: ${unit} ${precise(activations[peak] ?? 0)}. Text: `}
        </span>
      )}
      {texts()}
    </p>
  );
});

/** What a token needs that can be chosen. */
interface TokenOption {
  id: string;
  isPicked: boolean;
  isActive: boolean;
}

interface PickableTextProps {
  count: number;
  pick: TokenPick;
  texts: (optionOf: (index: number) => TokenOption) => ReactNode;
}

/** One stop of the Tab key, however many tokens there are. */
function PickableText({ count, pick, texts }: PickableTextProps) {
  const { label, picked, onPick, onPoint } = pick;
  const id = useId();
  const [place, setPlace] = useState(picked ?? 0);
  const active = Math.min(place, count - 1);
  const onKeyDown = (event: KeyboardEvent) => {
    const step = STEPS[event.key];
    if (step) {
      setPlace(step(active, count));
      onPoint?.(step(active, count));
    } else if (event.key === "Enter" || event.key === " ") onPick(active);
    else return;
    event.preventDefault();
  };
  const indexUnder = (event: MouseEvent) => {
    const option = (event.target as Element).closest("[role=option]");
    return option ? Number(option.id.slice(id.length + 1)) : null;
  };
  const onClick = (event: MouseEvent) => {
    const index = indexUnder(event);
    if (index === null) return;
    setPlace(index);
    onPick(index);
  };
  const point = onPoint && {
    onMouseOver: (event: MouseEvent) => onPoint(indexUnder(event)),
    onMouseLeave: () => onPoint(null),
    onFocus: () => onPoint(active),
    onBlur: () => onPoint(null),
  };
  return (
    <div
      role="listbox"
      tabIndex={0}
      aria-label={label}
      aria-activedescendant={count > 0 ? `${id}-${active}` : undefined}
      className={`${styles.text} ${styles.pickable}`}
      onKeyDown={onKeyDown}
      onClick={onClick}
      {...point}
    >
      {texts((index) => ({
        id: `${id}-${index}`,
        isPicked: index === picked,
        isActive: index === active,
      }))}
    </div>
  );
}

interface ShadedTokenProps extends Partial<TokenOption> {
  token: Token;
  value: number | undefined;
  max: number;
  unit: string;
  isPeak: boolean;
}

/** Memoized: a text that is being written has its earlier tokens unchanged. */
const ShadedToken = memo(function ShadedToken(props: ShadedTokenProps) {
  const { token, value, max, unit, isPeak, id, isPicked, isActive } = props;
  const pieces = piecesOf(token).map(({ kind, text }, index) =>
    kind === "text" ? (
      text
    ) : (
      // biome-ignore lint/suspicious/noArrayIndexKey: a piece is its place.
      <span key={index} className={styles[kind]}>
        {text}
      </span>
    ),
  );
  const className = [
    styles.token,
    isPeak && styles.peak,
    isPicked && styles.picked,
    isActive && styles.active,
  ]
    .filter(Boolean)
    .join(" ");
  const choice = id === undefined ? {} : { id, role: "option", "aria-selected": isPicked };
  const title = value === undefined ? undefined : `${nameOf(token)}: ${unit} ${precise(value)}`;
  if (!value || max <= 0) {
    return (
      <span className={className} title={title} {...choice}>
        {pieces}
      </span>
    );
  }
  const strength = `${Math.round(12 + 88 * Math.min(1, Math.abs(value) / max))}%`;
  const color = value > 0 ? "var(--activation)" : "var(--negative)";
  return (
    <mark
      className={className}
      title={title}
      {...choice}
      style={{ "--strength": strength, "--shade": color } as CSSProperties}
    >
      {pieces}
    </mark>
  );
});
