import { NumberText } from "../../components/NumberText";
import { bytes, whole } from "../../components/numbers";
import { Properties } from "../../components/Properties";
import type { ServerPage_StatusFragment, ServerPageQuery } from "./ServerPage.generated";

interface QueueProps {
  status: ServerPage_StatusFragment;
  limits: ServerPageQuery["server"]["limits"];
}

/** What waits, beside how much may wait. */
export function Queue({ status, limits }: QueueProps) {
  const { queuedJobs, waitingInteractiveRequests, memoryBytes } = status;
  return (
    <Properties
      of={[
        ["Jobs that wait", `${whole(queuedJobs)} of at most ${whole(limits.maxQueuedJobs)}`],
        [
          "Questions that wait",
          `${whole(waitingInteractiveRequests)} of at most ${whole(limits.maxInteractiveRequests)}`,
        ],
        ["Memory of the API", <NumberText key="memory" value={memoryBytes} format={bytes} />],
      ]}
    />
  );
}
