"""Channels: how people are told of incidents. Each renders (pure) and sends, and says what became of it."""
