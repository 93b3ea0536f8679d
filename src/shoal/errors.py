"""Everything Shoal refuses, in one tree. Each error speaks to a person: what, where, why, what next.

::

    ShoalError
    ├── Invalid           the request's content is wrong (a list of `Problem`)   400
    ├── Unauthenticated   who are you                                            401
    ├── Forbidden         you may not                                            403
    ├── NotFound          no such object or path                                 404
    ├── NotAllowed        that method does not go with that object               405
    ├── Duplicate         the name (or VIP and port) is taken                    409
    ├── InUse             the object is referred to by others                    400
    ├── Refused           a valid wish that can't be granted in this state       400
    ├── Stale             the object changed since you read it                   412
    ├── TooLarge          over a named bound                                     413
    ├── TooMany           too often: wait                                        429
    └── NotReady          come back later                                        503
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a document.

    ``path`` is the field's path as the user wrote it (``servers[1].port``, API counting from 0), ``value`` a short
    printable form of what was given, ``why`` the rule, ``hint`` the next step (a "did you mean", the choices).
    """

    path: str
    why: str
    value: str = ""
    hint: str = ""

    def sentence(self) -> str:
        """``servers[1].port: 70000 is not allowed: must be 1..65535. Hint.``"""
        head = f"{self.path}: " if self.path else ""
        given = f"{self.value} is not allowed: " if self.value else ""
        tail = f" {self.hint}" if self.hint else ""
        return f"{head}{given}{self.why}.{tail}"


class ShoalError(Exception):
    """Root of the tree. ``status`` is the HTTP status the API answers with."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class Invalid(ShoalError):
    """The content is wrong; ``problems`` lists every fault found, not only the first."""

    status = 400

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem(path="", why=problems.rstrip("."))]
        self.problems = tuple(problems)
        super().__init__(" ".join(p.sentence() for p in self.problems))


class Unauthenticated(ShoalError):
    status = 401


class Forbidden(ShoalError):
    status = 403


class NotFound(ShoalError):
    status = 404


class NotAllowed(ShoalError):
    """``allowed``: the methods that do go, as RFC 9110 wants them told: ``GET, PUT``."""

    status = 405

    def __init__(self, message: str, *, hint: str = "", allowed: str = "GET") -> None:
        super().__init__(message, hint=hint)
        self.allowed = allowed


class Duplicate(ShoalError):
    status = 409


class InUse(ShoalError):
    status = 400


class Refused(ShoalError):
    status = 400


class Stale(ShoalError):
    status = 412


class TooLarge(ShoalError):
    status = 413


class TooMany(ShoalError):
    """``retry_after_s``: when it may be tried again."""

    status = 429

    def __init__(self, message: str, *, hint: str = "", retry_after_s: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class NotReady(ShoalError):
    status = 503
