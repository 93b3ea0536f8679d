"""What a Linux shell completes after `shoal`: object types, and the names of objects where a password is at hand."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from shoal.errors import ShoalError
from shoal.objects import load

from . import settings
from .client import Client

NAMES_WITHIN_S = 1.0


def types(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Also after a comma."""
    before, comma, last = begun.rpartition(",")
    kinds = (kind.endpoint for kind in load().types.values() if not kind.read_only)
    return [CompletionItem(before + comma + kind) for kind in kinds if kind.startswith(last)]


def names(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Of the type that is typed. Nobody is asked for a password."""
    type = str(ctx.params.get("types") or ctx.params.get("type") or "")
    password = _given(ctx, "password")
    if not password or type not in load().types:
        return []
    client = Client(_given(ctx, "controller"), _given(ctx, "user"), password, tenant=_given(ctx, "tenant"))
    try:
        client.login()
        return [CompletionItem(name) for name in client.begun(type, begun, within_s=NAMES_WITHIN_S)[0]]
    except ShoalError:
        return []
    finally:
        client.close()


def files(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="file")]


def _given(ctx: click.Context, name: str) -> Any:
    return ctx.params.get(name) or settings.setting(name) or ""
