import { type ComponentType, type LazyExoticComponent, lazy } from "react";

export interface PageRoute {
  path: string;
  /** In the navigation, where it has a place there. */
  label: string | null;
  Page: LazyExoticComponent<ComponentType>;
  /** Fetches the page's chunk ahead of time. */
  preload: () => void;
}

type Load = () => Promise<{ default: ComponentType }>;

function page(path: string, label: string | null, load: Load): PageRoute {
  return { path, label, Page: lazy(load), preload: () => void load() };
}

/** All pages; those with a label are in the navigation, in this order. The server's list: explorer.py. */
export const routes: readonly PageRoute[] = [
  page("/", "Home", () => import("../pages/HomePage/HomePage")),
  page("/jobs", "Jobs", () => import("../pages/JobsPage/JobsPage")),
  page("/jobs/:id", null, () => import("../pages/JobPage/JobPage")),
  page("/saes/:id", null, () => import("../pages/SaePage/SaePage")),
  page("/saes/:id/neurons/:index", null, () => import("../pages/NeuronPage/NeuronPage")),
  page("/saes/:id/concepts", null, () => import("../pages/ConceptsPage/ConceptsPage")),
  page("/datasets", "Datasets", () => import("../pages/DatasetsPage/DatasetsPage")),
  page("/capture", "Capture", () => import("../pages/CapturePage/CapturePage")),
  page("/train", "Train", () => import("../pages/TrainPage/TrainPage")),
  page("/runs/:id", null, () => import("../pages/RunPage/RunPage")),
  page("/models/:id", null, () => import("../pages/ModelPage/ModelPage")),
  page("/start", null, () => import("../pages/StartPage/StartPage")),
  page("/compare", "Compare", () => import("../pages/ComparePage/ComparePage")),
  page("/server", "Server", () => import("../pages/ServerPage/ServerPage")),
  page("/saes/:id/play", null, () => import("../pages/PlayPage/PlayPage")),
  page("/saes/:id/contrast", null, () => import("../pages/ContrastPage/ContrastPage")),
];
