"""A chat application over turnlog."""
