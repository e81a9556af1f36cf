"""Snowflake: the warehouse there, its objects, its own way of loading and merging, what it costs."""

import warnings

# The connector brings a copy of requests that knows no chardet from 6 on, and would say so on stderr at every command.
warnings.filterwarnings("ignore", message=r"urllib3 .* doesn't match a supported version")
