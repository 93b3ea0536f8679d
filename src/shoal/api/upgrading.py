"""POST ``upgrade``, the vendor's form: the engines of groups are started anew, one after another (`controller.upgrade`)."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from shoal.controller.references import name_in
from shoal.controller.view import View
from shoal.errors import Invalid, Problem, Refused
from shoal.objects.check import shown
from shoal.objects.views import uuid_of

from .context import Context
from .errors import json_response
from .limits import decode_object, read_body
from .ports import Runtime

GROUP = "serviceenginegroup"
IMAGES = ("image_ref", "controller_patch_ref", "se_patch_ref")
TRUTHS = ("system", "skip_warnings", "dryrun", "prechecks_only")
MEMBERS = ("se_group_refs", "se_group_options", *TRUTHS, *IMAGES)
SUSPEND = "SUSPEND_UPGRADE_OPS_ON_ERROR"
"""The only thing that is done when an engine can't be upgraded, and the vendor's default."""


class Upgrading:
    def __init__(self, view: View, runtime: Runtime) -> None:
        self._view = view
        self._runtime = runtime

    async def answer(self, context: Context) -> Response:
        """``se_group_refs``, or ``system`` for every group. Each group's upgrade is its own: what one is refused for does
        not hold up the others. Raises Invalid before anything has begun, Refused when none has."""
        data = await read_body(context.request)
        groups = self._wanted(decode_object(data) if data.strip() else {})
        said, begun = [], False
        for uuid, name in groups.items():
            try:
                answer = await self._runtime.operate(GROUP, uuid, "upgrade", {}, context.caller)
                status, begun = str(answer["status"]), True
            except Refused as refusal:
                status = str(refusal)
            said.append({"se_group_ref": f"/api/{GROUP}/{uuid}#{name}", "status": status})
        text = " ".join(f"{name}: {one['status']}" for name, one in zip(groups.values(), said, strict=True))
        if not begun:
            raise Refused(text or "There is no service engine group.")
        return json_response({"status": text, "se_groups": said})

    def _wanted(self, body: dict[str, Any]) -> dict[str, str]:
        """Groups by uuid, with their names."""
        problems = [*_problems(body)]
        names = {str(group["uuid"]): str(group["name"]) for group in self._view.all(GROUP)}
        references, found = body.get("se_group_refs") or [], dict[str, str]()
        if not isinstance(references, list) or not all(isinstance(one, str) for one in references):
            problems.append(Problem(path="se_group_refs", value=shown(references), why="must be a list of references"))
            references = []
        for index, reference in enumerate(references):
            uuid, name = uuid_of(reference), name_in(reference)
            fits = {id: known for id, known in names.items() if id == uuid or known == name}
            if not fits:
                why, hint = "no such service engine group", f"There are: {', '.join(sorted(names.values()))}."
                problems.append(Problem(path=f"se_group_refs[{index}]", value=shown(reference), why=why, hint=hint))
            elif len(fits) > 1:
                why, hint = "several service engine groups have this name", f"Give a uuid: {', '.join(sorted(fits))}."
                problems.append(Problem(path=f"se_group_refs[{index}]", value=shown(reference), why=why, hint=hint))
            found |= fits
        if not references and body.get("system") is not True and not problems:
            hint = "Name groups, or say system: true for all of them."
            problems.append(Problem(path="se_group_refs", why="says which groups are upgraded", hint=hint))
        if problems:
            raise Invalid(problems)
        return names if body.get("system") is True else found


def _problems(body: dict[str, Any]) -> list[Problem]:
    found = [
        Problem(path=shown(name), why="unknown member of an upgrade", hint=f"Known: {', '.join(MEMBERS)}.")
        for name in body
        if name not in MEMBERS
    ]
    found += [
        Problem(
            path=name,
            value=shown(body[name]),
            why="no images are kept here",
            hint="Install the software where the controller runs and start that anew; engines take what is installed.",
        )
        for name in IMAGES
        if body.get(name)
    ]
    found += [
        Problem(path=name, value=shown(body[name]), why="must be true or false")
        for name in TRUTHS
        if not isinstance(body.get(name, False), bool)
    ]
    found += [
        Problem(path=name, value="true", why="an upgrade is not tried out", hint="`whatif` shows what goes where.")
        for name in ("dryrun", "prechecks_only")
        if body.get(name) is True
    ]
    options = body.get("se_group_options") or {}
    if not isinstance(options, dict):
        return [*found, Problem(path="se_group_options", value=shown(options), why="must be an object")]
    if (action := options.get("action_on_error", SUSPEND)) != SUSPEND:
        why = f"must be {SUSPEND}: what can't be upgraded is put back, and the rest waits to be asked for again"
        found.append(Problem(path="se_group_options.action_on_error", value=shown(action), why=why))
    if options.get("disruptive"):
        why = "must be false: an engine is emptied before it is started anew"
        found.append(Problem(path="se_group_options.disruptive", value=shown(options["disruptive"]), why=why))
    return found
