"""The client library of Sundown, a session broker for mail."""
