"""What every HTTP client's adapter needs: partitions, body rules, server-sent events, streams."""
