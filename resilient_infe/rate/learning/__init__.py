"""Learns an unknown rate limit.

`Learner` is the door: what it is told, and what it answers. Behind it, from the bottom up:

1. `Sends` is what was sent and not refused, with running sums.
2. `hypotheses` are the kinds of limit that a server may keep. Each turns the time between two
   exhausted moments into bounds on its rate.
3. `Noise` tells random 429s from a limit.
4. `Record` is all that is believed. It outlives every change of state.
5. `states` is the one table of what follows what; `Course` is the state, and the pace.
6. `Stop` finds the end of a time in which nothing is let in. It changes no belief about how much.
7. `Judge` reads the record at an exhausted moment; `Race` shares windows of the clock.
8. `Seeker` puts them together: when the next request may go, and what an answer means.

`Tuning` has every number that was given, with the reason for it. Nothing here reads a clock, knows
a loop or draws a random number.
"""
