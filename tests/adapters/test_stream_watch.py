"""StreamWatch: however a stream is cut into parts, packed, or cut off, it tells the same."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from streamers import ENDING, USAGE, WHOLE, event, word

from resilient_infe import Call, Kind, Usage
from resilient_infe.adapters.http.request import RequestBody
from resilient_infe.adapters.http.response import stream_watch_for
from resilient_infe.adapters.http.stream_watch import StreamWatch, _merged

SSE = "text/event-stream"


def watched(parts, encoding="identity", *, kind=SSE, expected=True, several=False):
    """Return a watch that was fed some parts."""
    watch = StreamWatch(kind, encoding, expected=expected, several=several)
    for part in parts:
        watch.feed(part)
    return watch


def cut_at(data, cuts):
    """Return bytes cut into parts."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def packed(parts, wbits):
    """Return parts packed one after the other, each flushed, as a server streams them."""
    packer = zlib.compressobj(wbits=wbits)
    made = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return b"".join([*made, packer.flush()])


ENCODINGS = {"identity": None, "": None, "gzip": 31, "deflate": 15}
cuts = st.lists(st.integers(0, 10_000), max_size=12)
words = st.lists(st.text(max_size=6), min_size=1, max_size=5)


def chat(texts):
    """Return the events of a chat completion's stream, its end included."""
    chunks = [
        event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})) for text in texts
    ]
    return [*chunks, *ENDING]


@given(words, cuts, st.sampled_from(sorted(ENCODINGS)))
def test_a_whole_stream_is_whole_however_it_is_cut(texts, cuts, encoding):
    """Cut into parts anywhere, packed or not: whole, with its usage, and no error."""
    events = chat(texts)
    data = b"".join(events) if not ENCODINGS[encoding] else packed(events, ENCODINGS[encoding])
    watch = watched(cut_at(data, cuts), encoding)
    assert (watch.cut_short(), watch.usage, watch.verdict) == (None, Usage(3, 4, 7), None)


@given(words, cuts, st.integers(0, 10_000), st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_stream_that_is_cut_off_is_told(texts, cuts, length, newline):
    """Cut off before the event that ends it, at any byte, a stream that was asked for is short."""
    events = [each.replace(b"\n", newline.encode()) for each in chat(texts)]
    data = b"".join(events)[:length]
    ended = length >= len(b"".join(events[:-2]))
    undecided = not ended and length > len(b"".join(events[:-2])) - 2  # before the last newline
    assume(not undecided)
    missing = watched(cut_at(data, cuts)).cut_short()
    assert (missing is None) == ended


@given(words, st.integers(0, 10_000))
def test_a_packed_stream_that_is_cut_off_is_told(texts, length):
    """So is one that is packed."""
    events = chat(texts)
    whole = packed(events, 31)
    until_the_end = len(packed(events[:-2], 31)) - 10  # without the trailer
    watch = watched([whole[: min(length, until_the_end - 8)]], "gzip")
    assert watch.cut_short() is not None


ENDS = {
    "done": event("[DONE]"),
    "finish reason": word(None, "length"),
    "message_stop": event({"type": "message_stop"}),
    "response.completed": event({"type": "response.completed", "response": {}}),
    "response.incomplete": event({"type": "response.incomplete", "response": {}}),
    "response.failed": event({"type": "response.failed", "response": {}}),
}
BEGINNINGS = {
    "chat": word(0),
    "message": event({"type": "message_start", "message": {"content": []}}),
    "response": event({"type": "response.created", "response": {}}),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_every_dialects_end_is_known(beginning, end):
    """OpenAI's chat and responses and Anthropic's messages: with their end whole, without not."""
    assert watched([beginning, end]).cut_short() is None
    assert watched([beginning]).cut_short() == "the stream ended before it was complete"


def of_choice(index, reason=None):
    """Return an event of a choice, which ends it where there is a reason."""
    return event({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]})


def test_an_empty_finish_reason_is_none():
    """Some servers send an empty one with every chunk: the stream has not ended."""
    assert watched([of_choice(0, "")] * 3).cut_short() is not None
    assert watched([of_choice(0, ""), of_choice(0, "stop")]).cut_short() is None


EMPTY = event({"choices": []})
STREAMS = {
    "each ended": ([of_choice(0), of_choice(1), of_choice(1, "stop"), of_choice(0, "stop")], True),
    "one is open": ([of_choice(0), of_choice(1), of_choice(0, "stop")], False),
    "one after the other": ([of_choice(0), of_choice(0, "stop"), of_choice(1)], False),
    "one spoke on": ([of_choice(0), of_choice(0, "stop"), of_choice(0), EMPTY], True),
    "asked for, but never begun": ([of_choice(0), of_choice(0, "stop")], True),
    "of no index": ([event({"choices": [{"finish_reason": "stop"}]})] * 2, True),
    "none at all": ([EMPTY], False),
}


@pytest.mark.parametrize(("events", "whole"), STREAMS.values(), ids=STREAMS)
def test_each_choice_that_began_has_to_end(events, whole):
    """Where several were asked for, the stream is whole when none of them is open."""
    watch = watched(events, several=True)
    assert (watch.cut_short() is None) is watch.complete is whole
    watch.feed(event("[DONE]"))
    assert watch.cut_short() is None


def test_choices_further_inside_end_where_one_does():
    """In a completion of another shape the first finish reason is the end, as far as is known."""
    inside = event({"output": {"choices": [{"finish_reason": "null"}]}})
    for several in (False, True):
        open_one = watched([event({"output": {"choices": [{}]}})], several=several)
        assert open_one.cut_short() is not None
        assert watched([inside], several=several).cut_short() is None


@pytest.mark.parametrize(
    "choices", [None, {}, "stop", [None, "x", {}], [{"index": "0", "finish_reason": None}]]
)
def test_choices_of_an_odd_shape_end_nothing(choices):
    """What is no list of choices, or says nothing, is not the end and raises nothing."""
    odd = event({"choices": choices, "x": {"finish_reason": "stop"}})
    for several in (False, True):
        assert watched([word(0), odd], several=several).cut_short() is not None


@pytest.mark.parametrize(
    "data",
    [
        word(0, x='"finish_reason": "stop"'),
        event({"choices": [{"delta": {"content": '"finish_reason": "stop"'}}]}),
        event({"choices": [{"delta": {"content": '{"type": "message_stop"}'}}]}),
        event({"choices": [{"delta": {"content": "[DONE]"}}]}),
        event({"choices": [{"delta": {"content": 'data: [DONE]\n\n"error": {"code": "x"}'}}]}),
    ],
)
def test_what_a_model_says_is_not_the_end(data):
    """Text that looks like the end, or like an error, inside the content is only text."""
    watch = watched([data])
    assert watch.cut_short() is not None
    assert watch.verdict is None


@pytest.mark.parametrize(
    "parts",
    [
        [event({"price": 1}), event({"price": 2})],
        [b"event: ping\ndata: {}\n\n"],
        [event("plain text")],
        [event("[1, 2]")],
    ],
)
def test_other_streams_are_not_judged(parts):
    """A stream of some other kind may end whenever it likes."""
    assert watched(parts).cut_short() is None


@pytest.mark.parametrize("data", [b"", b": wait\n\n" * 9, b"\n\n", b"data: {", b"event: ping\n"])
def test_a_stream_that_was_asked_for_has_an_event(data):
    """Without a single event, keep-alives or half an event aside, a stream is none."""
    assert "ended before its first event" in watched([data]).cut_short()
    assert watched([data], expected=False).cut_short() is None


@pytest.mark.parametrize("kind", ["application/json", "", "text/plain", "application/x-ndjson"])
def test_only_event_streams_are_watched(kind):
    """Whatever is in it, another type of content is nobody's stream."""
    watch = watched([word(0)], kind=kind)
    assert (watch.cut_short(), watch.usage) == (None, None)


@pytest.mark.parametrize("kind", [SSE, "Text/Event-Stream; charset=utf-8", "text/event-stream;x"])
def test_the_type_may_be_written_in_any_way(kind):
    """The type's case and its parameters do not matter."""
    assert watched([word(0)], kind=kind).cut_short() is not None


@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from(["gzip", "deflate", "br", ""]))
def test_nonsense_is_survived(parts, encoding):
    """Bytes of any kind raise nothing."""
    watch = watched(parts, encoding)
    assert "before its first event" in (watch.cut_short() or "before its first event")
    assert (watch.usage, watch.verdict) == (None, None)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["usage", "error", "choices", "response", "message", "code", "type", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(junk, max_size=5))
def test_events_of_any_shape_are_survived(contents):
    """JSON of any shape where usage and errors are looked for raises nothing."""
    watch = watched([event(json.dumps(content)) for content in contents])
    watch.cut_short()


@pytest.mark.parametrize(
    "content",
    ['{"usage": {"total_tokens": ' + "9" * 5_000 + "}}", '{"error": {' + '"a": [' * 9_000,
     '{"usage": {"prompt_tokens": NaN}}', '{"usage": {"prompt_tokens": -5}}'],
    ids=["digits", "deep", "nan", "negative"],
)  # fmt: skip
def test_hostile_events_are_survived(content):
    """Numbers without end, depth without end, and counts that are none."""
    assert watched([event(content)]).usage is None


def test_a_bomb_is_not_unpacked():
    """A part that unpacks to more than any is not watched any further, and costs no memory."""
    bomb = gzip.compress(word(0) + b": x\n" * 5_000_000)
    assert watched([bomb], "gzip").cut_short() is None


def test_an_event_without_an_end_is_not_kept():
    """A line that never ends is given up."""
    watch = watched([b"data: " + b"x" * 1_000_000] * 20)
    assert watch.cut_short() is None


USAGES = {
    "chat": [event({"choices": [], "usage": USAGE})],
    "every chunk": [
        event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": n}})
        for n in range(5)
    ],
    "null first": [event({"choices": [], "usage": None}), event({"usage": USAGE})],
    "messages": [
        event({"type": "message_start", "message": {"usage": {"input_tokens": 3}}}),
        event({"type": "message_delta", "usage": {"output_tokens": 4}}),
    ],
    "responses": [
        event({"type": "response.completed",
               "response": {"usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}})
    ],
}  # fmt: skip


@pytest.mark.parametrize("events", USAGES.values(), ids=USAGES)
def test_usage_in_every_dialect(events):
    """Each API tells the cost in its own events, some of them in several."""
    assert watched(events).usage == Usage(3, 4, 7)


def test_an_error_inside_a_stream_is_the_outcome():
    """An event that is an error says what the call came to; the stream is not short as well."""
    error = {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}
    watch = watched([word(0), event(error)])
    assert watch.verdict.kind is Kind.RATE_LIMITED
    assert watch.cut_short() is None
    overloaded = event({"type": "error", "error": {"type": "overloaded_error"}})
    assert watched([BEGINNINGS["message"], overloaded]).verdict.kind is Kind.OVERLOADED


def test_an_error_beside_choices_is_the_outcome():
    """Gateways send an error as a last chunk, which SDKs raise all the same."""
    failed = word(None, "error", error={"code": "api_error", "message": "the provider failed"})
    assert watched([word(0), failed]).verdict.kind is Kind.SERVER_ERROR
    assert watched([word(0, error=None), *ENDING]).verdict is None


def test_parts_may_be_single_bytes():
    """Byte by byte is as well as all at once."""
    data = b"".join(WHOLE)
    watch = watched(data[n : n + 1] for n in range(len(data)))
    assert (watch.cut_short(), watch.usage) == (None, Usage(3, 4, 7))


@pytest.mark.parametrize("begin", [[word(0)], [b": hi\n\n"], [word(0), *ENDING]], ids=len)
@pytest.mark.parametrize("parts", [1, 3])
def test_of_several_gzip_members_only_the_first_is_read(begin, parts):
    """A client of httpx reads one: a stream that ends in a later one is cut short for it."""
    first, rest = gzip.compress(b"".join(begin)), gzip.compress(b"".join([word(1), *ENDING]))
    size = -(-len(first + rest) // parts)
    watch = watched([(first + rest)[at : at + size] for at in range(0, size * parts, size)], "gzip")
    complete = len(begin) > 1
    assert (watch.cut_short() is None) == complete
    assert complete or "several gzip members" in watch.cut_short()


def test_the_body_of_an_error_is_not_watched():
    """An error that is labelled as a stream has its status, and no events are awaited."""
    call = Call(None)
    call.body = RequestBody(b'{"model": "m", "stream": true}', "POST", "/v1/chat/completions")
    for status in (302, 400, 503):
        watch = stream_watch_for(call, status, {"content-type": "text/event-stream"})
        watch.feed(b'data: {"error": {"code": "insufficient_quota"}}\n\n')
        assert not watch.awaits_event
        assert (watch.verdict, watch.cut_short()) == (None, None)
    assert stream_watch_for(call, 200, {"content-type": "text/event-stream"}).awaits_event


@pytest.mark.parametrize(
    ("known", "reported", "total"),
    [
        (Usage(10, 1, 11), Usage(0, 5, 5), 15),
        (Usage(10, 1, 8), Usage(10, 4, 11), 11),  # three of the prompt are not charged
        (Usage(10, 1, 8), Usage(0, 6, 6), 13),
    ],
)
def test_usage_of_several_events_is_added_up(known, reported, total):
    """Of each count the larger one stays, and what is not charged stays free."""
    for first, second in ((known, reported), (reported, known)):
        assert _merged(first, second).total_tokens == total
    assert _merged(known, None) == _merged(None, known) == known
