import { useEffect, useState } from "react";
import { connection } from "../api/socket";
import { useStore } from "../api/store";
import styles from "./ConnectionNotice.module.css";

/** A connection that is back within this time is not worth a word. */
const PATIENCE_MS = 1_000;

/** Says when the page is not live, and why. */
export function ConnectionNotice() {
  const { state } = useStore(connection);
  const [isLate, setLate] = useState(false);
  const isDown = state === "reconnecting";
  useEffect(() => {
    setLate(false);
    if (!isDown) return;
    const timer = setTimeout(() => setLate(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [isDown]);

  return (
    <div role="status">
      {isDown && isLate && (
        <p className={styles.notice}>Reconnecting… What you see is as it was; nothing is lost.</p>
      )}
      {state === "signedOut" && (
        <p className={styles.notice}>
          You are signed out.{" "}
          <button type="button" onClick={() => window.location.reload()}>
            Sign in
          </button>
        </p>
      )}
    </div>
  );
}
