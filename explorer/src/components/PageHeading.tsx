import { type ReactNode, useEffect, useRef } from "react";
import { useLocation } from "wouter";
import { remember } from "../app/recentPlaces";

interface PageHeadingProps {
  title: string;
  /** Buttons and links beside the title. */
  children?: ReactNode;
}

let lastLocation: string | null = null;

/** The page's h1 and the document's title. After a navigation it has the focus, so that it is read out. */
export function PageHeading({ title, children }: PageHeadingProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  const [location] = useLocation();
  useEffect(() => {
    document.title = `${title} · gql-server`;
    remember({ href: location, title });
  }, [title, location]);
  useEffect(() => {
    // The first page has been asked for by the address, and the focus is where the browser puts it.
    const hasNavigated = lastLocation !== null && lastLocation !== location;
    lastLocation = location;
    if (!hasNavigated) return;
    heading.current?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [location]);
  return (
    <div className="row">
      <h1 ref={heading} tabIndex={-1}>
        {title}
      </h1>
      {children}
    </div>
  );
}
