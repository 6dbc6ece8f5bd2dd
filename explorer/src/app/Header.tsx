import { Link, useRoute } from "wouter";
import { Key } from "../components/Key";
import styles from "./Header.module.css";
import { RunningJobs } from "./RunningJobs";
import { type PageRoute, routes } from "./routes";

interface HeaderProps {
  onSearch: () => void;
}

export function Header({ onSearch }: HeaderProps) {
  return (
    <header className={styles.header}>
      <Link href="/" className={styles.brand}>
        gql-server
      </Link>
      <nav aria-label="Pages" className={styles.nav}>
        {routes.map((route) => route.label && <NavLink key={route.path} {...route} />)}
      </nav>
      <RunningJobs />
      <button type="button" className={styles.search} onClick={onSearch} aria-keyshortcuts="Control+K">
        Search <Key name="Ctrl K" />
      </button>
    </header>
  );
}

function NavLink({ path, label, preload }: PageRoute) {
  const [isExact] = useRoute(path);
  const [isBelow] = useRoute(`${path}/*?`);
  const isCurrent = isExact || (path !== "/" && isBelow);
  return (
    <Link
      href={path}
      className={styles.link}
      aria-current={isCurrent ? "page" : undefined}
      onPointerEnter={preload}
      onFocus={preload}
    >
      {label}
    </Link>
  );
}
