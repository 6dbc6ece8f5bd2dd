import { Component, type ReactNode } from "react";

interface State {
  error: Error | null;
}

/** Shows that a page has failed, and leaves the rest of the screen as it is. */
export class ErrorBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { error: null };

  static getDerivedStateFromError(error: Error): State {
    return { error };
  }

  override render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    return (
      <div role="alert" className="stack">
        <h1>This page has failed</h1>
        <p>
          <code>{error.message}</code>
        </p>
        <p>
          <button type="button" onClick={() => window.location.reload()}>
            Load it again
          </button>
        </p>
      </div>
    );
  }
}
