"""Finding a limit that nobody told: the stages of one dimension's search.

`Finder` paces the sends and asks its stage what each rejection means. A stage answers with the next
one; it never changes another. `Search` doubles until something is rejected, `Climb` closes in on
it, `Track` keeps just below it and looks upwards now and then. `Closed` waits where nothing at all
gets through, and tells a window by it, which `Windowed` then follows. `Shared` keeps to a part of a
limit that others use too, and `Trial` finds out whether there are any.
"""
