"""Learns an unknown rate limit.

`Learner` decides whether the limit counts requests or tokens. `Finder` searches for the limit in
that dimension: it paces the requests, and asks its current stage what a 429 means. The stage
returns itself or the next stage; it never modifies another stage. The stages:

1. `Search` doubles the pace until the server rejects requests.
2. `Climb` approaches the limit from below, and measures it between two rejections.
3. `Track` stays just below the limit and sometimes probes above it. It goes back to `Climb` if the
   limit has clearly moved.

Three situations need other stages:

- The server accepts nothing. `Closed` sends single requests, at growing intervals, until one is
  accepted. If the stop was too long for a bucket that refills, it was the end of a per-minute
  window, and `Windowed` takes over, unless earlier probes have ruled out a window. `Windowed` also
  takes over from stages 1 to 3 if the server asks for such a long wait.
- Other clients use the same limit. `Shared` uses a fair part of it.
- It is unclear whether 429s are noise or caused by other clients. `Trial` sends far below the limit
  for a while: if the 429s stop, there are other clients; if not, `Track` resumes.

The files:

- learner.py: `Learner`, which `Allowance` uses
- finder.py: `Finder`
- stage.py: `Stage`, the base class; `Belief`, what a later run may start from
- search.py: `Search`, `Climb`; `Depth`, an estimate of the capacity of the server's bucket
- track.py: `Track`
- closed.py: `Closed`; `Turn`, when a fixed window ends
- windowed.py: `Windowed`
- shared.py: `Shared`, `Trial`
- belief.py: `believed`, the first stage of a warm start
- trail.py: `Trail`, the requests sent and rejected so far; `Measure`, what the server accepted
  between two rejections
- suspicion.py: `Suspicion`, whether rejections are more than noise
- costs.py: `Costs`, `Intervals`, evidence of whether the limit counts requests or tokens
"""
