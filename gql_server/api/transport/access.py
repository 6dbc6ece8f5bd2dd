"""Who may use the server: those who bring its token, or the session that a browser got for it."""

import hashlib
import hmac

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

WRONG_TOKEN = "This server needs its access token: send the header Authorization: Bearer <token>."
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Access:
    """Tells who may use the server. Without a token, everybody may."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = token.get_secret_value() if token else None
        # What a browser keeps cannot be turned back into the token, and is void once there is another.
        self.session = _keyed(self._token or "", "session")
        # Browsers keep cookies by host, not by port: two servers on one machine have two names.
        self.cookie = f"gql_server_{_keyed(self._token or '', 'cookie')[:8]}"

    @property
    def is_open(self) -> bool:
        """Whether there is no token to bring."""
        return self._token is None

    def allows(self, headers: Headers) -> bool:
        """Return whether a request, or a WebSocket's handshake, brings the token or a session."""
        return (
            self.is_open
            or self.allows_authorization(headers.get("authorization"))
            or _is_same(cookie_parser(headers.get("cookie", "")).get(self.cookie, ""), self.session)
        )

    def allows_authorization(self, value: object) -> bool:
        """Return whether the value of an Authorization header or key is the token as a bearer has it."""
        if self._token is None:
            return True
        scheme, _, token = value.partition(" ") if isinstance(value, str) else ("", "", "")
        return scheme.lower() == "bearer" and self.allows_token(token.strip())

    def allows_token(self, token: str) -> bool:
        """Return whether it is the token."""
        return self._token is None or _is_same(token, self._token)


def _is_same(given: str, expected: str) -> bool:
    """Compare in constant time, whatever their lengths."""
    digests = [hashlib.sha256(text.encode(errors="surrogatepass")).digest() for text in (given, expected)]
    return hmac.compare_digest(*digests)


def _keyed(token: str, purpose: str) -> str:
    return hmac.new(token.encode(), f"gql-server {purpose}".encode(), hashlib.sha256).hexdigest()
