import type { ReactNode } from "react";
import { Link } from "wouter";

interface EmptyProps {
  children: ReactNode;
  /** Where to go from here. */
  next?: { href: string; label: string };
}

/** Says that there is nothing, and what to do about it. */
export function Empty({ children, next }: EmptyProps) {
  return (
    <div className="row">
      <p className="muted">{children}</p>
      {next && (
        <Link href={next.href} className="button">
          {next.label}
        </Link>
      )}
    </div>
  );
}
