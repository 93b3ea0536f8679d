"""Guards' networks on loopback: who is heard, and who is spoken to."""

from __future__ import annotations

import hashlib
import socket
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from shoal.engine.guard import peers
from shoal.engine.guard.loop import Loop
from shoal.engine.guard.peers import NUMBER, SIGNATURE_BYTES, STRANGERS_MAX, Message, PeerNetwork
from shoal.engine.guard.sections import WHOLE_BYTES_MAX, Saying
from shoal.ownership.events import Entry, Heartbeat, Mode
from shoal.wire.desired import Peer

pytestmark = pytest.mark.root

KEY = b"of the group"
STRANGER_S = 0.2
BEAT_S = 0.02


class Talk:
    """Networks by name, on one loop, and what each heard. All say a heartbeat each 20 ms."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.loop = Loop()
        self.networks: dict[str, PeerNetwork] = {}
        self.heard: Counter[str] = Counter()

    def add(self, name: str, *vips: str) -> PeerNetwork:
        def hear(messages: Sequence[Message]) -> None:
            self.heard.update(f"{name} hears {message.engine}" for message in messages)

        address = f"127.0.71.{len(self.networks) + 1}"
        network = PeerNetwork(self.loop, name, address, hear, lambda peer, up: None, lambda peer, misses: None)
        network.know((), KEY, frozenset(vips))
        said = Heartbeat(name, "1", True, tuple(Entry(vip, Mode.HELD, None, 0, "") for vip in vips))

        def beat() -> None:
            network.send(said)
            self.loop.at(self.loop.now() + BEAT_S, beat)

        beat()
        self.networks[name] = network
        return network

    def go_on(self, seconds: float) -> Counter[str]:
        """What was heard meanwhile."""
        self.heard.clear()
        self.loop.running = True
        self.loop.at(self.loop.now() + seconds, lambda: setattr(self.loop, "running", False))
        self.loop.run()
        return Counter(self.heard)

    def close(self) -> None:
        for network in self.networks.values():
            network._datagrams.close()
            network._listener.close()


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.71.1", 0))
        value = Talk(free.getsockname()[1])
    monkeypatch.setattr(peers, "ENGINE_PORT", value.port)
    monkeypatch.setattr(peers, "STRANGER_S", STRANGER_S)
    yield value
    value.close()


def met(talk: Talk) -> None:
    talk.networks["a"].meet_stranger("b", "127.0.71.2")


def test_strangers_that_met_and_share_a_vip_go_on_talking(talk: Talk) -> None:
    talk.add("a", "v", "w")
    talk.add("b", "v")
    assert not talk.go_on(0.1)
    met(talk)
    talk.go_on(2 * STRANGER_S)
    assert talk.go_on(0.1).keys() == {"a hears b", "b hears a"}


def test_strangers_that_share_none_fall_silent(talk: Talk) -> None:
    talk.add("a", "w")
    talk.add("b", "v")
    met(talk)
    assert talk.go_on(STRANGER_S).keys() == {"b hears a"}
    talk.go_on(STRANGER_S)
    assert not talk.go_on(0.1)


def test_who_spoke_longest_ago_makes_room_for_a_new_stranger(talk: Talk) -> None:
    network = talk.add("a", "v")
    talk.add("b", "v")
    for number in range(STRANGERS_MAX + 1):
        network.meet_stranger(f"s{number}", f"127.0.72.{number}")
    met(talk)
    assert "b hears a" in talk.go_on(0.1)


def say_long(port: int, engine: str, address: str) -> None:
    """A heartbeat of many VIPs, from an address."""
    said = Heartbeat(engine, "1", True, tuple(Entry(f"vip-{n:060}", Mode.READY, None, 0, "") for n in range(40)))
    contents, sections = Saying().say(said)
    assert len(msgspec.msgpack.encode(said)) > WHOLE_BYTES_MAX
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
        speaker.bind((address, 0))
        for message in (*sections, contents):
            data = NUMBER.pack(0) + msgspec.msgpack.encode(message)
            signature = hashlib.blake2b(data, key=KEY, digest_size=SIGNATURE_BYTES).digest()
            speaker.sendto(signature + data, ("127.0.71.1", port))


@pytest.mark.parametrize("known_before", [True, False])
def test_a_peer_is_heard_however_many_others_were_before(talk: Talk, known_before: bool) -> None:
    """Engines that are replaced have other addresses, and a guard lives for months."""
    network = talk.add("a", "v")
    peer = Peer(id="p", name="p", rank=2, address="127.0.73.1", mac="")

    def know() -> None:
        network.know((peer,), KEY, frozenset({"v"}))

    if known_before:
        know()
    for number in range(STRANGERS_MAX + 5):
        say_long(talk.port, f"s{number}", f"127.0.72.{number + 1}")
        talk.go_on(0.005)
    if not known_before:
        know()
    say_long(talk.port, "p", "127.0.73.1")
    assert talk.go_on(0.1) == {"a hears p": 1}
