"""How requests come in and answers go out: access, HTTP, server-sent events, WebSockets, pages."""
