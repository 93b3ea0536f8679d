"""What servers can take, by what they took."""

from __future__ import annotations

import pytest

from shoal.controller import capacity
from shoal.controller.capacity import Capacities, Estimate, Span, Whole
from shoal.controller.metric_ids import METRICS
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts

from .test_metrics import World

DOCUMENT = {
    "uuid": "p",
    "name": "p",
    "capacity_estimation": True,
    "capacity_estimation_ttfb_thresh": 100,
    "servers": [{"ip": {"addr": "10.0.0.1"}, "port": 80}, {"ip": {"addr": "10.0.0.2"}, "port": 80}],
}


@pytest.mark.parametrize(
    ("spans", "threshold_ms", "found"),
    [
        ([(10, 5), (40, 80), (25, 20)], 100, (40, False)),
        ([(10, 5), (40, 80), (60, 120)], 100, (40, True)),
        ([(10, 5), (40, 80), (20, 900)], 100, (40, False)),
        ([(10, 500), (5, 400)], 100, (0, True)),
        ([(10, 10), (20, 11), (40, 29), (60, 31)], 0, (40, True)),
        ([(10, 1), (20, 2), (40, 15), (60, 19)], 0, (60, False)),
    ],
)
def test_the_highest_load_in_time_is_the_capacity(
    spans: list[tuple[float, float]], threshold_ms: int, found: tuple[float, bool]
) -> None:
    made = capacity.estimate([Span(*one) for one in spans], threshold_ms, 7.0)
    assert made is not None and (made.capacity, made.reached, made.load) == (*found, 7.0)


def test_nothing_is_said_of_nothing() -> None:
    assert capacity.estimate([], 100, 0.0) is None
    assert capacity.whole([None, None]) == Whole(0.0, None)


def test_servers_that_were_never_tried_are_taken_for_like_the_others() -> None:
    tried, more, idle = Estimate(30, 40, True, 100), Estimate(50, 60, True, 100), Estimate(5, 10, False, 100)
    assert capacity.whole([idle, None]) == Whole(5, None), "a guess would not be worth a server"
    assert capacity.whole([tried, more, idle, None]) == Whole(85, 200)
    assert capacity.whole([tried, Estimate(1, 70, False, 100)]) == Whole(31, 110)


class Pools:
    """A view with one pool."""

    def all(self, type: str) -> list[dict[str, object]]:
        return [DOCUMENT]

    def get(self, type: str, uuid: str) -> dict[str, object]:
        return DOCUMENT


async def test_what_is_measured_becomes_an_estimate_and_a_figure_of_the_pool() -> None:
    world, pools = World(), Pools()
    name = "10.0.0.1:80"
    found = Capacities(pools, pools, world.metrics, world.clock, up=lambda pool: [name])  # type: ignore[arg-type]
    total, ms = 0, 0
    for number, (answers, each_ms) in enumerate(((50, 10), (200, 60), (300, 250), (2, 9000), (100, 20)), 1):
        world.clock.s += 5
        total, ms = total + answers, ms + answers * each_ms
        counts = Counts(connections=total, requests=total, responses_2xx=total, response_ms=ms, timed=total)
        pool = PoolCounts("p", ((name, counts),))
        services = (ServiceCounts("vs", counts, (pool,)),)
        world.metrics.take(
            "se", Counters(epoch="e", number=number, at_ms=5000 * number, engine=EngineCounts(), services=services)
        )
    world.clock.s += 10
    await found.look()
    one = found.of("p")[name]
    assert one is not None and one.capacity == pytest.approx(40) and one.reached
    assert found.of("p")["10.0.0.2:80"] is None
    (window,) = world.metrics.read("pool", "p", 300, limit=1)
    assert METRICS["l4_server.avg_est_capacity"].value(window) == pytest.approx(40, rel=0.01)
    free = METRICS["l4_server.avg_available_capacity"].value(window)
    assert free is not None and 0 <= free < 40
    assert METRICS["l4_server.avg_est_capacity"].value(world.metrics.read("pool", "q", 300, limit=1)[0]) is None
