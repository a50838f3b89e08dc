"""What every engine with a page of its own must do; its module names the page."""

from __future__ import annotations

from benchmarks.engines import work

ROWS = 2_000


class JobContract:
    """Runs the program of a page with two workers, against a stand-in that keeps the limit.

    Attributes:
        page: the page.
        under_way: the rows of the blocks that may be under way at the same time.
    """

    page: str
    under_way: int

    def test_every_row_is_in_the_output_once(self):
        """Two workers keep one limit, and the engine adds up what they did."""
        with work(self.page, ROWS) as job:
            totals = job.run()
            assert job.once()
            assert (job.sends, job.model.books.rejected) == (ROWS, 0)
            assert str(ROWS) in totals

    def test_a_killed_job_goes_on(self):
        """Each row is in the output once, and only rows of unfinished blocks are sent again."""
        with work(self.page, ROWS) as job:
            job.run(lambda: job.sends >= ROWS // 2)
            unwritten = job.sends - len(job.written())
            job.run()
            assert job.once()
            assert job.repeated() <= min(unwritten, self.under_way)
