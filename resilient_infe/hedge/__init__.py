"""A second attempt for a call whose first one is late: the first answer counts."""
