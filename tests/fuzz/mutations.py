"""Valid inputs, damaged: what a fuzzer feeds, as hypothesis strategies, so that a find shrinks to its cause."""

from collections.abc import Callable

from hypothesis import strategies as st

Change = Callable[[bytes], bytes]

_TOKENS = (
    b"\0",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"9" * 30,
    b"9" * 5000,
    b'"',
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"\x1b[2J",
    b"\xc2\x9b",
    b"\xe2\x80\xae",
    b"\xff",
    b"\xef\xbb\xbf",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\n",
    b"../",
    b"%2e%2e/",
    b"%252e",
    b"0001-01-01T00:00:00+14:00",
    b"9999-12-31T23:59:59-14:00",
    b'"Id":"x",',
    b'{"Id":"a","CreationTime":"2026-11-20T08:15:31"}',
)
_DEPTHS = st.sampled_from([3, 200, 330, 500, 900, 1200, 100_000])
_PLACES = st.integers(0, 1 << 20)


def _place(data: bytes, n: int) -> int:
    return n % (len(data) + 1)


def _flip(n: int, bit: int) -> Change:
    def change(data: bytes) -> bytes:
        at = n % max(len(data), 1)
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] if data else data

    return change


def _cut(n: int, length: int) -> Change:
    return lambda data: data[: _place(data, n)] + data[_place(data, n) + length :]


def _end(n: int) -> Change:
    return lambda data: data[: _place(data, n)]


def _insert(n: int, what: bytes) -> Change:
    return lambda data: data[: _place(data, n)] + what + data[_place(data, n) :]


def _splice(n: int, m: int, length: int) -> Change:
    return lambda data: _insert(n, data[_place(data, m) :][:length])(data)


def _swap(n: int, what: bytes) -> Change:
    """Puts something in the place of the n-th JSON value that is a text or a number."""

    def change(data: bytes) -> bytes:
        colons = [at for at in range(len(data)) if data[at : at + 1] == b":"]
        if not colons:
            return data
        at = colons[n % len(colons)] + 1
        stops = [stop for mark in (b",", b"}", b"]", b"\n") if (stop := data.find(mark, at)) >= 0]
        return data[:at] + what + data[min(stops, default=len(data)) :]

    return change


def _nest(n: int, depth: int, is_object: bool) -> Change:
    opened, closed = (b'{"a":', b"}") if is_object else (b"[", b"]")
    return _swap(n, opened * depth + b"1" + closed * depth)


def _repeat(times: int) -> Change:
    return lambda data: data * times if len(data) * times < 300_000 else data


_PIECES = st.sampled_from(_TOKENS) | st.binary(max_size=8)
_CHANGES = st.one_of(
    st.builds(_flip, _PLACES, st.integers(0, 7)),
    st.builds(_cut, _PLACES, st.integers(1, 40)),
    st.builds(_insert, _PLACES, _PIECES),
    st.builds(_swap, _PLACES, _PIECES),
    st.builds(_end, _PLACES),
    st.builds(_splice, _PLACES, _PLACES, st.integers(1, 200)),
    st.builds(_nest, _PLACES, _DEPTHS, st.booleans()),
    st.builds(_repeat, st.sampled_from([2, 30, 300])),
)


@st.composite
def mutated(draw: st.DrawFn, valid: st.SearchStrategy[bytes], most: int = 4) -> bytes:
    """Valid inputs with up to `most` changes one after the other; without any now and then."""
    data = draw(valid)
    for change in draw(st.lists(_CHANGES, max_size=most)):
        data = change(data)
    return data
