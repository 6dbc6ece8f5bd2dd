import { useEffect, useState } from "react";
import { subscriber } from "../../api/socket";
import { type ServerPage_StatusFragment, ServerPageSubscriptionDocument } from "./ServerPage.generated";

const subscribe = subscriber(ServerPageSubscriptionDocument);

/** The server's state, once a second; null until it has been told. */
export function useServerStatus(): ServerPage_StatusFragment | null {
  const [status, setStatus] = useState<ServerPage_StatusFragment | null>(null);
  useEffect(() => subscribe(() => ({}), { next: ({ serverStatus }) => setStatus(serverStatus) }), []);
  return status;
}
