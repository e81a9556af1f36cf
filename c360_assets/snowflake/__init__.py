"""Snowflake: the warehouse there, its objects, its own way of loading and merging, what it costs."""
