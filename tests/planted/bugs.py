"""The bugs: one change of one line or two each, as a tired programmer would make it."""

from __future__ import annotations

import msgspec


class Bug(msgspec.Struct, frozen=True):
    """``old`` stands exactly once in ``file`` (below src/shoal)."""

    name: str
    file: str
    old: str
    new: str


BUGS = (
    Bug(
        "off by one in the buffer",
        "placement/capacity.py",
        "while needed and free() < needed and not board.create_refusal():",
        "while needed and free() < needed - 1 and not board.create_refusal():",
    ),
    Bug(
        "the buffer counts engines that may take nothing",
        "placement/capacity.py",
        "return (board.reckoned_count + board.creating_count) * group.max_vs_per_se - used",
        "return (board.up_count + board.creating_count) * group.max_vs_per_se - used",
    ),
    Bug(
        "one placement too many on an engine",
        "placement/choose.py",
        "if board.load[engine] > most or len(first) == 2:",
        "if board.load[engine] > most + 1 or len(first) == 2:",
    ),
    Bug(
        "the fullest engine is chosen",
        "placement/choose.py",
        "for engine in standing.roomy.upward():",
        "for engine in standing.roomy.downward(most):",
    ),
    Bug(
        "the youngest engine breaks a tie",
        "placement/standing.py",
        "self.roomy.put(engine.id, engine.rank, load)",
        "self.roomy.put(engine.id, -engine.rank, load)",
    ),
    Bug(
        "host redundancy is forgotten",
        "placement/choose.py",
        "        if board.host(engine) not in hosts:\n            first.append(engine)",
        "        if True:\n            first.append(engine)",
    ),
    Bug(
        "disabled engines get placements",
        "placement/standing.py",
        "if engine.state is EngineState.UP and engine.enable_state == ENABLED:",
        "if engine.state is EngineState.UP and engine.enable_state != FORCE:",
    ),
    Bug(
        "a failed engine counts against max_se",
        "placement/board.py",
        "return self.up_count + len(self.suspects) + self.creating_count",
        "return len(self.engines) + len(self.new)",
    ),
    Bug(
        "max_se is overrun by one",
        "placement/board.py",
        "if self.count >= group.max_se:",
        "if self.count > group.max_se:",
    ),
    Bug(
        "a takeover that happened is undone",
        "placement/steps.py",
        "if primary is None or primary.engine != vip.claimant:",
        "if primary is None:",
    ),
    Bug(
        "a new owner without a new generation",
        "placement/steps.py",
        "work.generation = work.vip.generation + 1",
        "work.generation = max(1, work.vip.generation)",
    ),
    Bug(
        "the controller does not wait for the armed successor",
        "placement/steps.py",
        "return vip.enabled and vip.armed and heirs and recent and not claimed",
        "return False",
    ),
    Bug(
        "raising the minimum adds to what was scaled out by hand",
        "placement/steps.py",
        "work.requested = max(work.requested, low)",
        "work.requested = max(low + work.user_factor, low)",
    ),
    Bug(
        "a drain ends at once",
        "placement/steps.py",
        "return placement.drained or board.now - placement.since >= board.group.drain_s(placement.engine)",
        "return True",
    ),
    Bug(
        "the last ready placement may be trimmed",
        "placement/fill.py",
        "if first.state is PlacementState.READY and len(work.ready) < 2:",
        "if first.state is PlacementState.READY and len(work.ready) < 1:",
    ),
    Bug(
        "the old engine drains before the new one serves",
        "placement/evacuate.py",
        "if all(placement.state is PlacementState.READY for placement in staying):",
        "if staying:",
    ),
    Bug(
        "room of a successor is promised twice",
        "placement/succession.py",
        "        if heir:\n            taken[heir] = taken.get(heir, 0) + work.vip.slots",
        "        if heir:\n            taken[heir] = taken.get(heir, 0)",
    ),
    Bug(
        "a succession stands though the room it counts on is gone",
        "placement/standing.py",
        "if slots > free]",
        "if slots > free + 1]",
    ),
    Bug(
        "a plan that was made leaves its traces in the indexes",
        "placement/board.py",
        "            self.standing.count_on(engine, -slots)",
        "            pass",
    ),
    Bug(
        "a change of an engine does not reach its VIPs",
        "placement/standing.py",
        "        for id in self.held.get(engine, ()):",
        "        for id in ():",
    ),
    Bug(
        "a list keeps its version when it changes",
        "placement/planner.py",
        "list_version=vip.list_version + 1 if grown or work.generation != vip.generation else vip.list_version,",
        "list_version=vip.list_version or 1,",
    ),
    Bug(
        "idle engines are deleted though the buffer needs them",
        "placement/capacity.py",
        "needed = math.ceil(used / group.max_vs_per_se) + spare if used else 0",
        "needed = math.ceil(used / group.max_vs_per_se) if used else 0",
    ),
    Bug(
        "services below their scale come before those that are down",
        "placement/fill.py",
        "        if not work.active:\n            _place_one(board, work)",
        "        while wanting(board, work) > 0 and not work.shortfall and _place_one(board, work):\n            pass",
    ),
    Bug(
        "what would help is more than needed",
        "placement/remedy.py",
        "return list(range(value + 1, min(LIMIT_MAX, value + STEPS_MAX) + 1))",
        "return list(range(value + 2, min(LIMIT_MAX, value + STEPS_MAX) + 1))",
    ),
    Bug(
        "a record made anew judges the end of the plan, not the moment",
        "placement/choose.py",
        "judged=judge(board, work, besides) if work.vip.id == board.watched else None,",
        "judged=judge(type(board)(board.snapshot, board.now), work, ()) if work.vip.id == board.watched else None,",
    ),
    Bug(
        "a thawed engine believes in its lease",
        "ownership/machine.py",
        "if before == NEVER or gap <= known.lease_s(self.state):",
        "if before == NEVER or gap <= 1000 * known.lease_s(self.state):",
    ),
    Bug(
        "a pair accepts more than one of its engines can carry",
        "placement/legacy.py",
        "if not short and pair.used + work.vip.slots > most:",
        "if not short and pair.used + work.vip.slots > 2 * most:",
    ),
    Bug(
        "a pair fails back though nobody asked",
        "placement/legacy.py",
        "if not board.group.auto_redistribute:",
        "if not board.group.distribute_load:",
    ),
    Bug(
        "a lost carrier goes unnoticed",
        "ownership/machine.py",
        'self.fall_silent("no carrier")',
        "self.say = True",
    ),
    Bug(
        "lists are acted upon before they are armed",
        "wire/desired.py",
        "return (self.succession, self.list_version) if self.armed else (self.in_force, self.in_force_version)",
        "return (self.succession, self.list_version)",
    ),
    Bug(
        "only the loss of all is a storm",
        "controller/storm.py",
        "lost > spare and lost * GROUP_SHARE > engines",
        "lost > spare and lost >= engines",
    ),
    Bug(
        "in a storm silence is proof",
        "controller/storm.py",
        "and sighting.down and sighting.proven and engine not in storm.lost:",
        "and sighting.down and engine not in storm.lost:",
    ),
    Bug(
        "moves are not paced",
        "placement/fill.py",
        "if not board.may_move(work):",
        "if work.held:",
    ),
    Bug(
        "a rebalance may make its target cross the high mark",
        "placement/rebalance.py",
        "if after > self._marks.high - MARGIN and not (idle_may_pass and candidate.idle):",
        "if after > 2 * self._marks.high and not (idle_may_pass and candidate.idle):",
    ),
    Bug(
        "consolidation forgets min_se",
        "placement/rebalance.py",
        "keep = max(needed, group.min_se)",
        "keep = needed",
    ),
    Bug(
        "a controller that starts again forgets when it rebalanced last",
        "controller/balance.py",
        "gone = max(0.0, self._clock.now() - last.at) if last is not None else interval_s(group)",
        "gone = interval_s(group)",
    ),
    Bug(
        "a write without an answer has not happened",
        "controller/ledger.py",
        "            self.unsure = True\n",
        "            pass\n",
    ),
    Bug(
        "an engine that was retired unheard is forgotten",
        "controller/ledger.py",
        "self.on_loaded([engine for id, engine in known.items() if id not in self.engines])",
        "self.on_loaded([])",
    ),
    Bug(
        "what an engine has received counts as run",
        "controller/acknowledged.py",
        "if (hello.root or hello.kept) == _manifest(hello):",
        "if not hello.root or hello.root == _manifest(hello):",
    ),
    Bug(
        "engines that fail side by side lengthen the wait each",
        "controller/making.py",
        "if self._begun.pop(engine.id, now) >= self._failed_at.get(engine.group, 0.0):",
        "if self._begun.pop(engine.id, now):",
    ),
    Bug(
        "of two strangers with one address the one that came later stays, too",
        "ownership/machine.py",
        "and (again or mac < self.state.mac):",
        "and mac < self.state.mac:",
    ),
    Bug(
        "silence goes on while the controller does not run",
        "controller/clock.py",
        "self._lost_s += lost_s",
        "self._lost_s += 0.0",
    ),
    Bug(
        "the word that a list is armed may be overtaken by the next list",
        "ownership/machine.py",
        "if vip.armed or version > view.list_version:",
        "if vip.armed or version > view.list_version > 0:",
    ),
    Bug(
        "a list that was never armed is in force",
        "controller/reconciler.py",
        "if record.list_version > before.list_version and armed(before):",
        "if record.list_version > before.list_version:",
    ),
    Bug(
        "who drains a VIP is no successor",
        "placement/succession.py",
        "        held = {p.engine for p in work.active}\n        hosts",
        "        held = {p.engine for p in work.placements}\n        hosts",
    ),
    Bug(
        "a successor that becomes a member is none until it is ready",
        "placement/succession.py",
        "return kept + new + [engine for engine in before if engine in others and engine not in ready]",
        "return kept + new",
    ),
    Bug(
        "an owner that does not take on is waited for",
        "placement/steps.py",
        "elif 0.0 < taken_on_by(board, work) <= board.now:",
        "elif 0.0 < taken_on_by(board, work) < 0.0:",
    ),
    Bug(
        "the next in succession is taken whatever host it is on",
        "placement/steps.py",
        'apart = next((engine for engine in heirs if not board.shares_host(work, engine)), "")',
        'apart = next(iter(heirs), "")',
    ),
    Bug(
        "two engines out of sight vouch for each other",
        "controller/fleet.py",
        "                if silence < QUIET_AFTER_S:\n",
        "                if silence < WITNESS_AGE_S_MAX:\n",
    ),
    Bug(
        "a storm of those that nobody misses any more",
        "controller/storm.py",
        "if group in self.active or not names:",
        "if group in self.active or not lost:",
    ),
    Bug(
        "a silent owner is probed as shortly as a dead one",
        "ownership/state.py",
        "return max(_asking_s(state, peer), _spans(state.timing).probing_s)",
        "return _asking_s(state, peer)",
    ),
    Bug(
        "who is struck from a list of successors leaves at once",
        "controller/compiler.py",
        "return engine in engines_of(record) or self.takes_over_still(engine, record)",
        "return engine in engines_of(record)",
    ),
    Bug(
        "who has left a VIP is told of it again",
        "controller/compiler.py",
        "or self._fleet.armed(record) or not self._fleet.has(engine, record.id):",
        "or self._fleet.armed(record):",
    ),
    Bug(
        "a controller that starts again has to arm every list anew",
        "controller/fleet.py",
        "            self._armed |= new\n",
        "            pass\n",
    ),
    Bug(
        "an engine is started anew while it is to take over",
        "controller/upgrade.py",
        "        still = [vip for vip in named if engine.id in vip.succession or self._takes_over_still(engine.id, vip)]",
        "        still: list[VipRecord] = []",
    ),
    Bug(
        "strangers that share no VIP answer each other for ever",
        "engine/guard/peers.py",
        "any(entry.vip in self._vips for entry in message.entries)",
        "bool(message.engine)",
    ),
    Bug(
        "those heard long ago leave no room for a new peer",
        "engine/guard/peers.py",
        "if address in self._by_address or address in by_address:",
        "if address in by_address:",
    ),
)
