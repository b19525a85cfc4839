"""The lab: a small text-to-video world with a known truth."""
