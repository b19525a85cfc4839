"""The study: refiners by one factor at a time, from prompts to tables and plots."""
