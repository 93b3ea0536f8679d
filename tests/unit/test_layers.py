"""A mapping over another behaves as a copy of it would, and leaves it as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.controller.layers import Layer, Layers

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
                layers.get(outer, {}).pop(key, None)
            else:
                copy.setdefault(outer, {})[key] = value
                layers.setdefault(outer, {})[key] = value
            assert dict(layers.get(outer, {})) == copy[outer]
    assert below == kept
