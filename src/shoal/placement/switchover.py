"""The operator's operations on a legacy pair: switchover; what an elastic group would do is refused with what to use."""

from __future__ import annotations

from . import requests
from .board import Board, Work
from .model import PlacementState, Request, RequestKind
from .pair import Pair

INSTEAD = {
    RequestKind.SCALE_OUT: (
        "in a legacy pair one engine is active and the other its standby",
        "Set ha_mode of the group to HA_MODE_SHARED_PAIR to serve from several engines.",
    ),
    RequestKind.SCALE_IN: (
        "in a legacy pair one engine is active and the other its standby",
        "Disable the virtual service to take it off both.",
    ),
    RequestKind.MIGRATE: ("a legacy pair has no third engine to go to", "Use switchover: active and standby change."),
}


def carry_out(board: Board, pair: Pair) -> None:
    for request in list(board.open.values()):
        work = board.works.get(request.vip)
        if work is None or not work.vip.enabled:
            requests.refuse(board, request, "the VIP is gone or its virtual service is disabled")
        elif request.kind is RequestKind.SWITCHOVER and board.out_of_sight(work):
            if not requests.began(work, request):  # one that has begun waits: who is out of sight may be active
                requests.refuse(board, request, f"the controller has lost sight of engines of {work.vip.name}")
        elif request.kind in INSTEAD:
            requests.refuse(board, request, *INSTEAD[request.kind])
        elif request.kind is RequestKind.SWITCHOVER and not work.takeover:
            _switchover(board, pair, work, request)


def _switchover(board: Board, pair: Pair, work: Work, request: Request) -> None:
    name, primary = work.vip.name, work.primary
    begun = [p for p in requests.of(work.vip.placements, request) if p.state is not PlacementState.DRAINING]
    if begun:
        _go_on(board, pair, work, request, begun[0].engine)
        return
    target = request.to_engine or pair.other(primary.engine if primary else "")
    no = "it is active nowhere yet" if primary is None or primary not in work.serving else ""
    if work.joining and work.joining != target:
        no = f"it is on its way to {board.name(work.joining)}"
    if primary is not None and primary.engine == target:
        board.answer(request, True, f"{name} is active on {board.name(target)} already.")
        return
    no = no or pair.obstacle(work, target)
    if no:
        requests.refuse(board, request, no)
    else:
        _go_on(board, pair, work, request, target)


def _go_on(board: Board, pair: Pair, work: Work, request: Request, target: str) -> None:
    name, held, primary = work.vip.name, work.on(target), work.primary
    ready = held is not None and held.state is PlacementState.READY
    if held is None and requests.began(work, request):
        requests.fail(board, work, request, work.broken.get(request.id, "the standby is gone"))
    elif held is not None and primary is not None and primary.engine == target:
        board.answer(request, True, f"{name} is active on {board.name(target)}.")
    elif not ready and board.now - request.at > (most := board.group.vs_switchover_timeout_s):
        board.drain(work, target)
        requests.fail(board, work, request, f"{board.name(target)} was not ready within {most:.0f} s")
    elif pair.move(work, target, f"switchover to {board.name(target)}", request.id):
        board.answer(request, True, f"{name} is active on {board.name(target)}.")
