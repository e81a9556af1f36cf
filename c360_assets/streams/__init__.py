"""Streams: events of brokers, brought to S3 as objects of a feed, each once."""


class StreamError(RuntimeError):
    """A stream cannot be read as asked; the text says what and what to do."""
