"""The share of the attempts that a throttled circuit refuses.

A server that sheds half of its load still serves the other half. A circuit that opens for it stops
both: of 50 calls a second for five minutes 0.7 % were answered, where retries alone got 61 %. So
while some attempts succeed, a circuit may refuse only a share of them::

    refused = max(0, (sent - succeeded / below) / (sent + 1))

With ``below=0.4``, of 200 attempts sent: 80 or more succeeded, nothing is refused; 40 succeeded,
50 % are refused; 10 succeeded, 87 %. What is sent is bounded by what the server still does.

This is "Client-Side Throttling" of Google's SRE book, chapter 21, "Handling Overload", whose K is
``1 / below``, with one difference: attempts that we refuse are not counted as sent, as in Envoy's
admission control filter. Otherwise our own refusals would be the reason for more of them. The
counts come from a window, which forgets; so the share falls by time alone, even if all calls stop.
"""

from __future__ import annotations

QUICK = 0.5
"""Seconds: a failure that took no longer may have overtaken the successes of its burst.

Of 45 calls sent at once, half of which are shed in 20 ms, the first 22 results are all failures. So
as long as no fewer attempts than that are still out, a row of quick failures proves nothing.
"""


def refused_share(succeeded: int, failed: int, below: float) -> float:
    """Return the share to refuse, from 0 to just under 1; the formula is above."""
    sent = succeeded + failed
    return max(0.0, (sent - succeeded / below) / (sent + 1))


def is_over(succeeded: int, failed: int, failure_ratio: float) -> bool:
    """Whether a circuit may close: half of the ratio that throttled it, so that it does not flap.

    Without any attempt in the window nothing fails any more, so it may close too.
    """
    sent = succeeded + failed
    return not sent or failed < failure_ratio / 2 * sent
