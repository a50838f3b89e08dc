"""What every other package uses: calls, verdicts, guards, queues, and checks of arguments."""
