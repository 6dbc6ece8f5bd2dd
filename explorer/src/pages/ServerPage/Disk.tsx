import { Card } from "../../components/Card";
import { bytes } from "../../components/numbers";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import styles from "./Disk.module.css";
import type { ServerPage_StatusFragment } from "./ServerPage.generated";

/** What lies on the disk, the largest first. */
export function Disk({ status }: { status: ServerPage_StatusFragment }) {
  const { artifactBytes, artifactByteLimit, artifactBytesByKind, artifactsMeasuredAt, freeBytes } = status;
  const kinds = artifactBytesByKind
    .filter(({ byteSize }) => byteSize > 0)
    .sort((one, other) => other.byteSize - one.byteSize);
  const most = kinds[0]?.byteSize ?? 1;
  return (
    <Card title="Disk" aside={<span className="muted">{bytes(freeBytes)} free</span>}>
      {artifactBytes === null ? (
        <p className="muted">Not measured yet.</p>
      ) : (
        <p>
          {bytes(artifactBytes)} of artifacts
          {artifactByteLimit !== null && ` of at most ${bytes(artifactByteLimit)}`}, as of{" "}
          <Time at={artifactsMeasuredAt} />
        </p>
      )}
      <dl className={styles.kinds}>
        {kinds.map(({ kind, byteSize }) => (
          <div key={kind} className={styles.kind}>
            <dt>{plain(kind)}</dt>
            <dd className={styles.size}>{bytes(byteSize)}</dd>
            <dd className={styles.bar} aria-hidden="true">
              <div style={{ width: `${(100 * byteSize) / most}%` }} />
            </dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}
