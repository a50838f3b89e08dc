"""Every number that the learner was given, with the reason for it.

They are in one place so that the gym can vary them: ``replace(Tuning(), looks=0.005)``. None of
them belongs to a kind of server: what a server is like is measured.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """The numbers of the learner. Durations are in seconds, rates in requests per second."""

    at_once: int = 8
    """Requests that go before anything is known: a small job should not notice the learner."""
    per_answer: float = 2.0
    """More requests per accepted answer at the start: it doubles by round trips, as TCP does."""
    start: float = 30.0
    """The pace of the clock at the start; beside it, the answers let requests go."""
    start_doubles: float = 2.0
    """Seconds in which that pace doubles, up to `calm`."""
    calm: float = 50.0
    """The pace from which the clock grows slower: nobody's small job needs more."""
    calm_doubles: float = 6.0
    """Seconds in which it doubles from there: one overshoot costs a round trip's worth of 429s."""
    climb: float = 1.25
    """The growth of a climb in each of its steps: an overshoot of a quarter is measured well."""
    climb_step: float = 2.0
    """Seconds of a step of a climb, or four requests if that is longer."""
    quick: float = 2.0
    """The growth of a climb that begins far below what was used before."""
    impatience: float = 60.0
    """Seconds of a climb that meet nothing, after which it doubles every ten: by time alone."""
    dip: float = 0.04
    """How far below a fresh belief the pace keeps at first, so that a bucket refills."""
    sure_dip: float = 0.015
    """The same below a belief that was confirmed: this is what a steady limit loses."""
    first_look: float = 5.0
    """Seconds to the first look after a new belief, or 20 requests if that is longer."""
    looks: float = 0.0026
    """Looks per request: each costs a 429 or two, and finds a raised limit (the gym's curve)."""
    rarest_look: float = 110.0
    """Seconds between two looks at most, so that a server without a limit is used within five
    minutes; no multiple of a minute, or what happens each minute would meet every look."""
    slow_look: float = 40.0
    """Requests between two looks, if that is rarer: each 429 is dear where few pass."""
    slowest_look: float = 170.0
    """Seconds between two looks at most: two minutes are left to find that no limit is there."""
    hinted: float = 4.0
    """Times that looks are rarer where 429s state a wait: what is not asked need not be refused."""
    longest_look: float = 75.0
    """Seconds of a look that meets nothing, more than a window of a minute has, to a rise."""
    least_look_growth: float = 0.005
    """The growth of a look per second, at least: small limits rise too."""
    look_growth: float = 0.03
    """The growth of a look per second, at most; less if many requests are on their way."""
    look_on_its_way: float = 0.06
    """Requests by which a look may grow while one 429 comes back: they all cost one."""
    rise: float = 2.0
    """Seconds in which a pace doubles that no belief explains any more, or three round trips."""
    used: float = 1.6
    """A pace above the belief is at most this many times what was really sent of late."""
    busy: float = 0.04
    """A request later than this had not been waiting: time without work tells nothing. So much may
    a late sender catch up."""
    slowest: float = 1.0 / 30.0
    """The pace below which nothing could be learned any more."""
    least_passed: int = 8
    """Requests that pass between two exhausted moments before their rate is a measure."""
    soon: float = 20.0
    """Exhausted below the belief once is no proof. Twice within this time, or 60 requests, is."""
    question_growth: float = 1.7
    """The growth of the gap between two questions to a server that lets nothing in."""
    question_share: float = 0.2
    """That gap is at most this share of the stop so far: a stop is found over soon enough."""
    longest_question_gap: float = 8.0
    """That gap at most in the first two minutes: an outage is over within that time."""
    late_question_share: float = 1.0 / 15.0
    """The share from then on: there is no cap, as a window may be a day's."""
    unknown_question_share: float = 1.0 / 60.0
    """The share while nothing was ever let in: fifty refused rows at the head are passed sooner."""
    question_gap: float = 1.5
    """That gap at most, in a short stop."""
    resume: float = 0.5
    """What is sent of the belief at once after a stop; it doubles by round trips from there."""
    dear: float = 4.0
    """A hint from which a 429 is dear: then fewer 429s convince, and looks are rarer."""
    noise_least: float = 0.002
    """The least share of random 429s that is reckoned with."""
    noise_most: float = 0.08
    """The most: above it a limit cannot be told from chance."""
    calm_noise: float = 0.0012
    """The measured share below which a lone 429 in a look is a limit, after 170 quiet requests."""
    few: float = 0.3
    """Requests per second below which a lone 429 in a look is a limit, too: chance hardly meets so
    few, and jitter is far shorter than the time between them."""
    limit_refuses: float = 0.25
    """The share that a reached limit refuses, or three times the noise if that is more."""
    sure: float = 8.0
    """The log-likelihood at which 429s are a limit: chance does this once in 3,000 requests."""
    sure_looking: float = 6.0
    """The same while a look is under way: there a limit is expected."""
    sure_alone: float = 3.0
    """The same where there was no noise, or a 429 is dear: one 429 in a look is enough."""
    race: float = 6.0
    """Seconds in which the pace doubles from a window's turn, if others use the window too."""
    share_growth: float = 0.012
    """Shared and told so: the root of the pace times this is added in each second."""
    share_cut: float = 0.3
    """Shared and told so: the part that is given up at a 429, at most once a second."""
    content: float = 30.0
    """Seconds at a declared limit that must meet nothing before the learner rests."""


DEFAULT = Tuning()
