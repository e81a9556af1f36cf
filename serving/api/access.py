"""Access: who asks, what they may see, how often they may ask.

Belongs here: tokens (JWT, RS256), scopes, rates. Without a key nobody can be known: then only this machine is served,
and nobody sees personal data.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import jwt

from serving.api.problems import Problem

READ, PERSONAL = "read", "pii:read"
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Reader:
    """Who asks. `scopes` of READ and PERSONAL; `until` in seconds since 1970."""

    name: str
    scopes: frozenset[str]
    until: float = float("inf")

    @property
    def sees_persons(self) -> bool:
        return PERSONAL in self.scopes


NOBODY = Reader("nobody", frozenset({READ}))


class Tokens:
    """Bearer tokens that were signed for us. `key`: a file with the public key, PEM."""

    def __init__(self, key: Path, issuer: str = "", audience: str = "") -> None:
        self._key = key.read_text()
        self._issuer, self._audience = issuer or None, audience or None
        # A signature takes ten times as long to verify as all else of a request.
        self._verified: OrderedDict[str, Reader] = OrderedDict()

    def reader(self, header: str) -> Reader:
        """
        Raises:
            Problem: 401, where the header holds no token, or one that is not for us or not any more.
        """
        way, _, token = header.partition(" ")
        if way.lower() != "bearer" or not token:
            raise _unknown("a bearer token is needed: Authorization: Bearer ...")
        found = self._verified.get(token)
        if found is None:
            found = self._verified[token] = self._read(token)
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        if found.until <= time.time():
            del self._verified[token]
            raise _unknown("the token has expired")
        return found

    def _read(self, token: str) -> Reader:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["RS256"],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except jwt.InvalidTokenError as error:
            raise _unknown(f"the token is refused: {error}") from error
        return Reader(str(claims["sub"]), frozenset(str(claims.get("scope", "")).split()), float(claims["exp"]))


def _unknown(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": 'Bearer realm="c360"'})


class Rate:
    """So many requests a second for each reader, and as many at once, one at least: a bucket that fills by itself."""

    def __init__(self, per_second: float) -> None:
        self._rate, self._most = per_second, max(1.0, per_second)
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> None:
        """
        Raises:
            Problem: 429, with the seconds to wait.
        """
        now = time.monotonic()
        left, at = self._left.get(name, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        if left < 1:
            wait = max(1, round((1 - left) / self._rate + 0.5))
            raise Problem(429, "too many requests", f"at most {self._rate:g} a second", {"Retry-After": str(wait)})
        self._left[name] = (left - 1, now)
        if len(self._left) > _REMEMBERED:
            full = [n for n, (_, seen) in self._left.items() if now - seen > self._most / self._rate]
            for each in full:
                del self._left[each]
