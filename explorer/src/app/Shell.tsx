import { lazy, Suspense, useEffect, useState } from "react";
import { Route, Switch, useLocation } from "wouter";
import { followChanges } from "../api/changes";
import { followJobs } from "../api/liveJobs";
import { ConnectionNotice } from "./ConnectionNotice";
import { ErrorBoundary } from "./ErrorBoundary";
import { Header } from "./Header";
import { NotFoundPage } from "./NotFoundPage";
import { routes } from "./routes";
import styles from "./Shell.module.css";

const CommandMenu = lazy(() => import("./CommandMenu"));

/** What stands around every page. */
export function Shell() {
  const [location] = useLocation();
  const [isMenuOpen, setMenuOpen] = useState(false);

  useEffect(followChanges, []);
  useEffect(followJobs, []);
  useEffect(() => {
    const open = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      setMenuOpen(true);
    };
    window.addEventListener("keydown", open);
    return () => window.removeEventListener("keydown", open);
  }, []);

  return (
    <>
      <a className={styles.skip} href="#main">
        Skip to the content
      </a>
      <Header onSearch={() => setMenuOpen(true)} />
      <ConnectionNotice />
      <main id="main" className={styles.main}>
        <ErrorBoundary key={location}>
          <Suspense fallback={<p className="muted">Loading…</p>}>
            <Switch>
              {routes.map(({ path, Page }) => (
                <Route key={path} path={path}>
                  <Page />
                </Route>
              ))}
              <Route>
                <NotFoundPage />
              </Route>
            </Switch>
          </Suspense>
        </ErrorBoundary>
      </main>
      {isMenuOpen && (
        // Its files may be gone, where the server has been upgraded: the page stays as it is.
        <ErrorBoundary>
          <Suspense>
            <CommandMenu onClose={() => setMenuOpen(false)} />
          </Suspense>
        </ErrorBoundary>
      )}
    </>
  );
}
