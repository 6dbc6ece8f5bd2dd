import { Empty } from "../components/Empty";
import { PageHeading } from "../components/PageHeading";

export function NotFoundPage() {
  return (
    <>
      <PageHeading title="There is no such page" />
      <Empty next={{ href: "/", label: "Go to the first page" }}>
        The address may be mistyped, or what it named may have been deleted.
      </Empty>
    </>
  );
}
