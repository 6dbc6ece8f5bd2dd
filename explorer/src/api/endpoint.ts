/** Path under which a proxy shows the server, such as /lab; empty without one. The server writes it into the page. */
export const rootPath = document.getElementById("root")?.dataset.rootPath ?? "";

export const graphqlUrl = `${rootPath}/graphql`;

export const socketUrl = `${window.location.origin.replace(/^http/, "ws")}${graphqlUrl}`;
