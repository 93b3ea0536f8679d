"""A mapping over another behaves as a copy of it would, and leaves it as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.controller.layers import Layer, Layers
from shoal.controller.view import _take_out

KEYS = st.integers(0, 5)
WRITES = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.integers())))


@given(below=st.dictionaries(KEYS, st.integers()), writes=WRITES)
def test_a_layer_is_as_a_copy(below: dict[int, int], writes: list[tuple[int, int | None]]) -> None:
    kept, copy, layer = dict(below), dict(below), Layer(below)
    for key, value in writes:
        if value is None:
            assert layer.pop(key, None) == copy.pop(key, None)
        else:
            copy[key] = layer[key] = value
        assert dict(layer) == copy and len(layer) == len(copy) and all((k in layer) == (k in copy) for k in range(6))
    assert below == kept


@given(below=st.dictionaries(KEYS, st.dictionaries(KEYS, st.integers(), min_size=1)), writes=WRITES)
def test_layers_are_as_a_deep_copy(below: dict[int, dict[int, int]], writes: list[tuple[int, int | None]]) -> None:
    kept = {key: dict(inner) for key, inner in below.items()}
    copy = {key: dict(inner) for key, inner in below.items()}
    layers = Layers(below)
    for key, value in writes:
        for outer in (0, 3):
            if value is None:
                copy.setdefault(outer, {}).pop(key, None)
                if outer in layers:
                    layers[outer].pop(key, None)
            else:
                copy.setdefault(outer, {})[key] = value
                layers.setdefault(outer, {})[key] = value
            assert dict(layers.get(outer, {})) == copy[outer]
    assert below == kept


@given(below=st.dictionaries(KEYS, st.integers()), writes=WRITES)
def test_a_layer_settles_into_what_it_lies_over(below: dict[int, int], writes: list[tuple[int, int | None]]) -> None:
    layer = Layer(below)
    for key, value in writes:
        if value is None:
            layer.pop(key, None)
        else:
            layer[key] = value
    wanted = dict(layer)
    layer.settle_into(below)
    assert below == wanted


@given(
    below=st.dictionaries(KEYS, st.dictionaries(KEYS, st.integers(), min_size=1)), rounds=st.lists(WRITES, max_size=3)
)
def test_layers_settle_into_what_they_lie_over(
    below: dict[int, dict[int, int]], rounds: list[list[tuple[int, int | None]]]
) -> None:
    """As a batch does it: one draft after another settles into the draft of all, which is a mapping of layers itself."""
    copy = {key: dict(inner) for key, inner in below.items()}
    together: Layers[int, int, int] = Layers(below)
    for writes in rounds:
        own: Layers[int, int, int] = Layers(together)
        for key, value in writes:
            for outer in (0, 3):
                if value is None:
                    copy.get(outer, {}).pop(key, None)
                    _take_out(own, outer, key)
                else:
                    copy.setdefault(outer, {})[key] = value
                    own.setdefault(outer, {})[key] = value
        own.settle_into(together)
        assert {outer: dict(together.get(outer, {})) for outer in range(6)} == {o: copy.get(o, {}) for o in range(6)}
    together.settle_into(below)  # type: ignore[arg-type]  # plain mappings, as the view's own are
    assert below == {outer: inner for outer, inner in copy.items() if inner}
